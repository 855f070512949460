/** What a plan answers, as `millrace plan --json` prints it. Times in figures are microseconds, rates a second, shares 0 to 1. */
import type { Candidate, Refused } from "./candidates.ts";
import type { Figures } from "./figures.ts";
import type { LoadPoint } from "./series.ts";
import type { Slo } from "./slo.ts";

export const PLAN_FORMAT = "millrace-plan";
export const PLAN_VERSION = 1;

/** One replay. */
export type Trial = {
  readonly multiple: number;
  /** `hopeless`: ended early, the target being out of reach; `stopped`: interrupted. Both: figures of what had ended by then. */
  readonly ended: "complete" | "hopeless" | "stopped";
  readonly met: boolean;
  readonly figures: Figures;
};

/** The highest load at which the target is met, between the highest found to meet it and the lowest found not to. */
export type Goodput = {
  readonly multiple: number;
  /** Null: it held at every load tried. */
  readonly fails_at: number | null;
  readonly calls_per_s: number;
  readonly calls_per_s_per_gpu: number;
  readonly calls_per_s_per_gpu_used: number;
};

export type Tried = {
  readonly configuration: string;
  readonly nodes: number;
  readonly gpus: number;
  readonly gpus_used: number;
  readonly policies: string;
  readonly trials: readonly Trial[];
  /** Null: not searched, because it cannot beat the best one, or because another question was asked. */
  readonly goodput: Goodput | null;
};

export type Curve = readonly (readonly [value: number, share: number])[];
export type Chosen = {
  readonly configuration: string;
  readonly nodes: number;
  readonly gpus: number;
  readonly gpus_used: number;
  readonly policies: string;
  readonly cluster: Candidate["cluster"];
  /** At the trace's own load. */
  readonly figures: Figures;
  readonly met: boolean;
  readonly goodput: Goodput | null;
  readonly ttft_us_cdf: Curve;
  readonly tpot_us_cdf: Curve;
  readonly load: readonly LoadPoint[];
};

export type Plan = {
  readonly format: typeof PLAN_FORMAT;
  readonly version: typeof PLAN_VERSION;
  /** False: interrupted; what is here is what was known by then. */
  readonly complete: boolean;
  readonly seed: number;
  readonly workload: {
    readonly name: string;
    readonly kind: "open" | "closed";
    readonly calls: number;
    readonly calls_per_s: number | null;
    readonly prompt_tokens_mean: number;
    readonly output_tokens_mean: number;
  };
  readonly slo: Slo;
  readonly cluster: { readonly name: string; readonly model: string; readonly currency: string; readonly price_per_gpu_hour: number };
  /** `met`: the fewest nodes, and the best configuration on them. `not_met`: the nearest one. `unknown`: interrupted before any. */
  readonly verdict: "met" | "not_met" | "unknown";
  readonly chosen: Chosen | null;
  readonly configurations: readonly Tried[];
  readonly refused: readonly Refused[];
  /** How it was measured, and what to doubt. */
  readonly notes: readonly string[];
};
