/**
 * How long will this prompt take to compute? Learned from the prefills that the scheduler saw, for each kind of instance:
 *
 *    time = a + b·uncached + c·uncached·(cached + uncached ÷ 2)
 *
 * a: what a step costs whatever is in it; b: the matrix products, linear in new tokens; c: attention, where each new token reads
 * all before it. Until something is seen, a dense 8B model on one A100 is assumed, from published step times.
 */
import type { Micros } from "../../../schema/core/time.ts";
import type { Instance } from "../vocabulary.ts";
import { RobustFit } from "./robust-fit.ts";

export type PrefillTimeOptions = {
  /** Kinds of instance (model, GPUs, KV compatibility) with a fit of their own at most (I8); the one made first is forgotten. */
  readonly kinds_max: number;
};

/** Thousands of tokens, and millions for their product, so that the coefficients are of one size. */
const PRIOR = {
  prior: [10_000, 70_000, 2_500],
  prior_spread: [20_000, 200_000, 20_000],
  noise: 10_000,
  forgetting: 0.99,
};
const TIME_MIN_US = 100;

export class PrefillTime {
  readonly #kinds_max: number;
  readonly #fits = new Map<string, RobustFit>();

  constructor({ kinds_max }: PrefillTimeOptions) {
    this.#kinds_max = kinds_max;
  }

  predict(instance: Instance, uncached_tokens: number, cached_tokens: number): Micros {
    const features = featuresOf(uncached_tokens, cached_tokens);
    return Math.round(Math.max(TIME_MIN_US, this.#fitOf(instance).predictGrowing(features))) as Micros;
  }

  learn(instance: Instance, uncached_tokens: number, cached_tokens: number, took: Micros): void {
    this.#fitOf(instance).learn(featuresOf(uncached_tokens, cached_tokens), took);
  }

  #fitOf(instance: Instance): RobustFit {
    return fitOf(this.#fits, instance, this.#kinds_max, PRIOR);
  }
}

const featuresOf = (uncached: number, cached: number): readonly number[] => [
  1,
  uncached / 1_000,
  (uncached * (cached + uncached / 2)) / 1_000_000,
];

/** Instances of one kind teach each other. */
export function fitOf(
  fits: Map<string, RobustFit>,
  { model, kv_compat, gpus, role }: Instance,
  kinds_max: number,
  prior: ConstructorParameters<typeof RobustFit>[0],
): RobustFit {
  const kind = `${model} ${role} ${gpus} ${kv_compat}`;
  let fit = fits.get(kind);
  if (fit === undefined) {
    for (const oldest of fits.keys()) {
      if (fits.size < kinds_max) break;
      fits.delete(oldest);
    }
    fits.set(kind, (fit = new RobustFit(prior)));
  }
  return fit;
}
