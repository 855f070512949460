/** First come, first served: by arrival, ties by call id. The baseline that every other order is measured against. */
import type { Call } from "../vocabulary.ts";
import type { Ordering, Queued } from "../policies.ts";
import { SortedList } from "./sorted-list.ts";

export function byArrival(a: Call, b: Call): number {
  if (a.arrived !== b.arrived) return a.arrived - b.arrived;
  return a.call_id < b.call_id ? -1 : a.call_id > b.call_id ? 1 : 0;
}

// Arrival alone decides: what calls are given teaches this order nothing.
const learnsNothing = (): void => undefined;

export const fcfs: Ordering = {
  queue: <Q extends Queued>() => new SortedList<Q>((a, b) => byArrival(a.call, b.call)),
  served: learnsNothing,
  finished: learnsNothing,
};
