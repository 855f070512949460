/** What the scheduler keeps of a live call. Changed only by call-life.ts (and `told`, by the queue). */
import type { Failure } from "../../../schema/core/errors.ts";
import type { InstanceId } from "../../../schema/core/ids.ts";
import type { Micros } from "../../../schema/core/time.ts";
import type { Call, LegUsage } from "../vocabulary.ts";
import type { InstanceEntry, Reservation } from "./instance-book.ts";
import type { Leg } from "./leg-book.ts";
import { Timer } from "./timers.ts";

export type CallState = "queued" | "resting" | "prefilling" | "decoding" | "whole" | "aborting" | "ended";

/** What an aborting call does once all its legs are over. */
export type AfterAbort =
  | { readonly type: "cancelled"; readonly reason: string }
  | { readonly type: "failed"; readonly failure: Failure }
  | {
      readonly type: "retry";
      /** What the call fails with if it may not be retried. */
      readonly failure: Failure;
      /** False when nothing went wrong with the attempt itself: its decode instance went away before it was needed, or no engine
       *  had it. */
      readonly counts: boolean;
      /** Tried again only if no other instance of its role is ready. */
      readonly culprit: InstanceEntry | null;
    };

export class CallRecord {
  readonly call: Call;
  /** The one instant at which this call needs attention if nothing happens before. */
  readonly timer: Timer;
  state: CallState = "queued";
  /** Names the legs. Grows with each retry, whether or not that counts as a failure. */
  attempt = 0;
  failures = 0;
  /** Tokens that the client has been sent. Above 0 there is no retry. */
  emitted = 0;
  model_time = 0;
  prefill: Leg | null = null;
  /** The leg whose tokens the client sees: decode or whole. */
  answer: Leg | null = null;
  reservation: Reservation | null = null;
  /** Prompt and cached tokens are billed from prefill: decode reports what prefill told it (D5). */
  prefill_usage: LegUsage | null = null;
  after: AfterAbort | null = null;
  cancel_by: Micros = 0 as Micros;
  rest_until: Micros = 0 as Micros;
  /** At most one for each failure. */
  readonly avoid: InstanceId[] = [];
  /** The place that the client heard last; 0: none. */
  told = 0;

  constructor(call: Call, on_timer: (record: CallRecord, now: Micros) => void) {
    this.call = call;
    this.timer = new Timer((now) => on_timer(this, now));
  }
}
