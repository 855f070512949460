/** First come, first served: by arrival, ties by call id. The baseline that every other order is measured against. */
import type { Call } from "../vocabulary.ts";
import type { Ordering } from "../policies.ts";

export const fcfs: Ordering = {
  compare(a: Call, b: Call): number {
    if (a.arrived !== b.arrived) return a.arrived - b.arrived;
    return a.call_id < b.call_id ? -1 : a.call_id > b.call_id ? 1 : 0;
  },
  finished() {
    // Arrival alone decides: how long a call took teaches this order nothing.
  },
};
