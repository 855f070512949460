/** The baseline: one honest policy for each of the six questions, and the limits. What a gateway runs unless told otherwise. */
import { microsFromMs } from "../../schema/core/time.ts";
import { boundedQueue } from "./admission/bounded-queue.ts";
import { keepWhatFits } from "./cache/keep-what-fits.ts";
import { fixedSize, type GroupTarget } from "./elasticity/fixed-size.ts";
import { weightByTokens } from "./metering/weights.ts";
import { fcfs } from "./ordering/fcfs.ts";
import { leastPredictedLoad } from "./routing/least-load.ts";
import type { SchedulerConfig } from "./scheduler.ts";
import { DEFAULT_LIMITS, type SchedulerLimits } from "./scheduler/limits.ts";

export type BaselineOptions = {
  /** See SchedulerConfig. */
  readonly scope: string;
  /** How many groups of each model and role. */
  readonly targets: readonly GroupTarget[];
  readonly queued_per_model_max?: number;
  readonly limits?: Partial<SchedulerLimits>;
};

export function baselinePolicies(options: BaselineOptions): SchedulerConfig {
  const limits: SchedulerLimits = { ...DEFAULT_LIMITS, ...options.limits };
  const cache = keepWhatFits({ prompts_per_instance_max: 4_096, tokens_per_instance_max: 400_000, block_tokens: 16 });
  return {
    scope: options.scope,
    admission: boundedQueue({
      queued_per_model_max: options.queued_per_model_max ?? 4_096,
      retry_after_min_ms: 100,
      retry_after_max_ms: 60_000,
      retry_after_unknown_ms: 1_000,
      drain_window: microsFromMs(1_000),
      models_max: 64,
    }),
    ordering: fcfs,
    routing: leastPredictedLoad({ cache, deferred_pulls_max: limits.deferred_pulls_max, kv_lease_margin: limits.kv_lease_margin }),
    cache,
    elasticity: fixedSize(options.targets),
    allocation: weightByTokens,
    limits,
  };
}
