/**
 * Distributions of token counts.
 *
 * `sharegpt` stands in for the ShareGPT sample that DistServe (OSDI '24) was evaluated on, which is not at hand. From the paper: mean
 * prompt 755.5 tokens, mean answer 200.3 tokens; from OPT: prompt and answer within 2,048 positions. The paper gives no spread, so that
 * is ours: log-normal with sigma 1.0 for both (conversation lengths span three orders of magnitude), cut by drawing again beyond
 * [4, 1,848] and [4, 1,000]; the medians are those with which the means of what is left are the paper's.
 */
import { normal, type Random } from "./random.ts";

export type Lengths =
  | { readonly type: "fixed"; readonly tokens: number }
  /** Drawn again while outside [min, max]. */
  | { readonly type: "log_normal"; readonly median: number; readonly sigma: number; readonly min: number; readonly max: number };

/** Drawing again ends here, at the nearest bound: a distribution that lies outside its bounds must not hang a run. */
const DRAWS_MAX = 1_000;

export function draw(lengths: Lengths, random: Random): number {
  if (lengths.type === "fixed") return lengths.tokens;
  let tokens = lengths.median;
  for (let i = 0; i < DRAWS_MAX; i++) {
    tokens = Math.round(lengths.median * Math.exp(lengths.sigma * normal(random)));
    if (tokens >= lengths.min && tokens <= lengths.max) return tokens;
  }
  return Math.max(lengths.min, Math.min(lengths.max, tokens));
}

/** The mean of what `draw` gives, by adding up densities over whole tokens. */
export function meanOf(lengths: Lengths): number {
  if (lengths.type === "fixed") return lengths.tokens;
  const { median, sigma, min, max } = lengths;
  let [mass, sum] = [0, 0];
  for (let tokens = min; tokens <= max; tokens++) {
    const z = Math.log(tokens / median) / sigma;
    const density = Math.exp((-z * z) / 2) / tokens;
    mass += density;
    sum += density * tokens;
  }
  return sum / mass;
}

/** The median with which a cut log-normal has this mean, by bisection. */
function fitted(mean: number, sigma: number, min: number, max: number): Lengths {
  let [low, high] = [1, 100 * mean];
  for (let i = 0; i < 60; i++) {
    const median = (low + high) / 2;
    if (meanOf({ type: "log_normal", median, sigma, min, max }) < mean) low = median;
    else high = median;
  }
  return { type: "log_normal", median: Math.round(low * 10) / 10, sigma, min, max };
}

export const SHAREGPT_PROMPT_MEAN = 755.5;
export const SHAREGPT_OUTPUT_MEAN = 200.3;

export type Workload = { readonly prompt: Lengths; readonly output: Lengths };
let sharegpt_fitted: Workload | null = null;
export const sharegpt = (): Workload =>
  (sharegpt_fitted ??= {
    prompt: fitted(SHAREGPT_PROMPT_MEAN, 1, 4, 1_848),
    output: fitted(SHAREGPT_OUTPUT_MEAN, 1, 4, 200 * 5),
  });
