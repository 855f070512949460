/**
 * Distributions of token counts.
 *
 * `sharegpt` stands in for the ShareGPT sample that DistServe (OSDI '24) was evaluated on, which is not at hand. Its authors publish the
 * lengths of some of it beside their simulator (LLMServe/DistServe, commit 20a1633, simdistserve/benchmarks/alignment/data-ground-truth/
 * opt-13b-sharegpt-workload): 1,593 different pairs, mean prompt 761.0 and answer 186.8 tokens, where the paper says 755.5 and 200.3
 * for the whole. What is carried here are their twentieths, with straight lines between them. Prompt and answer are drawn
 * independently (their correlation there is −0.13), and again while both together pass OPT's 2,048 positions, as the authors' sample does.
 */
import { normal, type Random } from "./random.ts";

export type Lengths =
  | { readonly type: "fixed"; readonly tokens: number }
  /** Drawn again while outside [min, max]. */
  | { readonly type: "log_normal"; readonly median: number; readonly sigma: number; readonly min: number; readonly max: number }
  /** Equally likely between any two neighbours, the least first. */
  | { readonly type: "quantiles"; readonly tokens: readonly number[] };

export type Workload = {
  readonly prompt: Lengths;
  readonly output: Lengths;
  /** Prompt and answer together at most: drawn again beyond. */
  readonly together_max: number;
};

/** Drawing again ends here, at the nearest bound: a distribution that lies outside its bounds must not hang a run. */
const DRAWS_MAX = 1_000;

export function draw(lengths: Lengths, random: Random): number {
  switch (lengths.type) {
    case "fixed":
      return lengths.tokens;
    case "quantiles": {
      const place = random.next() * (lengths.tokens.length - 1);
      const low = lengths.tokens[Math.floor(place)] ?? 1;
      const high = lengths.tokens[Math.floor(place) + 1] ?? low;
      return Math.max(1, Math.round(low + (high - low) * (place % 1)));
    }
    case "log_normal": {
      let tokens = lengths.median;
      for (let i = 0; i < DRAWS_MAX; i++) {
        tokens = Math.round(lengths.median * Math.exp(lengths.sigma * normal(random)));
        if (tokens >= lengths.min && tokens <= lengths.max) return tokens;
      }
      return Math.max(lengths.min, Math.min(lengths.max, tokens));
    }
  }
}

/** A prompt's and an answer's tokens, at least one each. */
export function drawPair(workload: Workload, prompts: Random, outputs: Random): { readonly prompt: number; readonly output: number } {
  for (let i = 0; ; i++) {
    const prompt = Math.max(1, draw(workload.prompt, prompts));
    const output = Math.max(1, draw(workload.output, outputs));
    if (prompt + output <= workload.together_max) return { prompt, output };
    if (i === DRAWS_MAX) return { prompt: workload.together_max - 1, output: 1 };
  }
}

export const SHAREGPT: Workload = {
  prompt: {
    type: "quantiles",
    tokens: [2, 25, 89, 165, 244, 316, 378, 454, 518, 603, 685, 773, 858, 955, 1_044, 1_149, 1_280, 1_421, 1_547, 1_723, 2_031],
  },
  output: {
    type: "quantiles",
    tokens: [1, 6, 9, 12, 15, 18, 22, 28, 36, 53, 78, 115, 159, 212, 259, 304, 350, 409, 513, 649, 1_809],
  },
  together_max: 2_048,
};
