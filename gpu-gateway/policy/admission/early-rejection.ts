/**
 * Refuses at the door what could not be answered in time (Mooncake's early rejection): when the first token, or the time between two,
 * is expected to miss its objective. What is expected is routing's own prediction for the call if it were placed now, so with a routing
 * that places at once the two agree. Where calls wait here before they are placed, that wait is not in the prediction: then it
 * refuses too little, never too much.
 *
 * Everything else is for `inner` to say, and it is asked first: a call that is refused anyway is refused with its better reason.
 * With nothing ready there is nothing to predict from, and the call waits, as ever (D4).
 */
import { failure } from "../../../schema/core/errors.ts";
import type { Micros } from "../../../schema/core/time.ts";
import type { Admission, AdmissionDecision, InstanceView, QueueView } from "../policies.ts";
import type { Call } from "../vocabulary.ts";

export type EarlyRejectionOptions = {
  readonly inner: Admission;
  readonly expect: (call: Call, instances: readonly InstanceView[], now: Micros) => { readonly ttft: Micros; readonly tbt: Micros } | null;
  /** Null: any time will do. */
  readonly ttft_max: Micros | null;
  readonly tbt_max: Micros | null;
  /** What a refused client is told at least and at most. */
  readonly retry_after_min_ms: number;
  readonly retry_after_max_ms: number;
};

export function earlyRejection(options: EarlyRejectionOptions): Admission {
  const { inner, ttft_max, tbt_max, retry_after_min_ms, retry_after_max_ms } = options;

  /** The excess is work that must be done first, at best by then. */
  const refuse = (what: string, expected: Micros, allowed: Micros): AdmissionDecision => ({
    type: "reject",
    failure: failure("slo_unattainable", `${what} is expected after ${ms(expected)} ms; the objective is ${ms(allowed)} ms`),
    retry_after_ms: Math.min(retry_after_max_ms, Math.max(retry_after_min_ms, ms(expected - allowed))),
  });

  return {
    admit(call: Call, queue: QueueView, instances: readonly InstanceView[]): AdmissionDecision {
      const decision = inner.admit(call, queue, instances);
      if (decision.type === "reject") return decision;
      const expected = options.expect(call, instances, queue.now);
      if (expected === null) return decision;
      if (ttft_max !== null && expected.ttft > ttft_max) return refuse("the first token", expected.ttft, ttft_max);
      if (tbt_max !== null && expected.tbt > tbt_max) return refuse("each further token", expected.tbt, tbt_max);
      return decision;
    },
  };
}

const ms = (micros: number): number => Math.ceil(micros / 1_000);
