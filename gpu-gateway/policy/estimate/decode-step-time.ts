/**
 * How long between two tokens of an answer? Learned, for each kind of instance, from answers that have ended:
 *
 *    time = a + b·calls + c·KV tokens
 *
 * with the calls and KV there when the answer ended standing for its whole life. That is coarse, but what is asked of it is to rank
 * instances, and to say when the next one is too many. Until something is seen, a dense 8B model on one A100 is assumed.
 */
import type { Micros } from "../../../schema/core/time.ts";
import type { InstanceView } from "../policies.ts";
import { kvDemand } from "./kv-demand.ts";
import { fitOf } from "./prefill-time.ts";
import type { RobustFit } from "./robust-fit.ts";
import type { Call } from "../vocabulary.ts";

/** A step reads the parameters (8 ms), adds 0.1 ms of arithmetic a call, and reads the KV: 65 ns a token, here by the thousand. */
const PRIOR = {
  prior: [10_000, 100, 65],
  prior_spread: [20_000, 1_000, 500],
  noise: 2_000,
  forgetting: 0.99,
};
const TIME_MIN_US = 100;

export class DecodeStepTime {
  readonly #kinds_max: number;
  readonly #fits = new Map<string, RobustFit>();

  constructor({ kinds_max }: { readonly kinds_max: number }) {
    this.#kinds_max = kinds_max;
  }

  /** With this call beside what runs there or is bound for it. */
  predict(view: InstanceView, call: Call): Micros {
    const { instance, legs, reserved, kv_tokens } = view;
    const features = [1, legs + reserved + 1, (kv_tokens + kvDemand(call, "decode")) / 1_000];
    return Math.round(Math.max(TIME_MIN_US, this.#fit(instance).predictGrowing(features))) as Micros;
  }

  /** An answer of which it took so long for `tokens` tokens has ended, and is still in the books. */
  learn({ instance, legs, kv_tokens }: InstanceView, tokens: number, took: Micros): void {
    this.#fit(instance).learn([1, legs, kv_tokens / 1_000], took / tokens);
  }

  #fit(instance: InstanceView["instance"]): RobustFit {
    return fitOf(this.#fits, instance, this.#kinds_max, PRIOR);
  }
}
