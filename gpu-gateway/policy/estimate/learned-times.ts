/**
 * Times as a live gateway knows them: prefill and decode learned from what engines took, KV transfer from what the operator says of
 * the network, since no live engine tells how long fetching a prefix took.
 */
import type { TimeEstimates } from "../policies.ts";
import type { Micros } from "../../../schema/core/time.ts";
import { DecodeStepTime } from "./decode-step-time.ts";
import { PrefillTime } from "./prefill-time.ts";

export type LearnedTimesOptions = {
  /** Kinds of instance that are told apart at most (I8). */
  readonly kinds_max: number;
  /** One transfer, and each token of it. An 8B model's KV over 25 GB/s: 131,072 B a token, 5.2 µs. */
  readonly transfer_us: number;
  readonly transfer_us_per_token: number;
};

export function learnedTimes({ kinds_max, transfer_us, transfer_us_per_token }: LearnedTimesOptions): TimeEstimates {
  const prefills = new PrefillTime({ kinds_max });
  const steps = new DecodeStepTime({ kinds_max });
  return {
    prefill_time: (instance, uncached, cached) => prefills.predict(instance, uncached, cached),
    decode_step_time: (view, call) => steps.predict(view, call),
    transfer_time: (tokens) => Math.round(transfer_us + tokens * transfer_us_per_token) as Micros,
    prefilled: (instance, uncached, cached, took) => prefills.learn(instance, uncached, cached, took),
    decoded: (view, tokens, took) => steps.learn(view, tokens, took),
  };
}
