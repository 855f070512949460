/**
 * Policies by name, so that configuration, planner and simulator choose them in the same way: names and parameters in, a
 * SchedulerConfig out. Policies have state: each scheduler needs its own. README.md beside says what each one is.
 */
import { microsFromMs } from "../../schema/core/time.ts";
import { boundedQueue } from "./admission/bounded-queue.ts";
import { earlyRejection } from "./admission/early-rejection.ts";
import { keepWhatFits } from "./cache/keep-what-fits.ts";
import { prefixIndex } from "./cache/prefix-index.ts";
import { fixedSize, type GroupTarget } from "./elasticity/fixed-size.ts";
import { learnedTimes } from "./estimate/learned-times.ts";
import { weightByTokens } from "./metering/weights.ts";
import { fcfs } from "./ordering/fcfs.ts";
import type { ServiceWeights } from "./ordering/service-counters.ts";
import { DEFAULT_SERVICE_WEIGHTS, vtc } from "./ordering/vtc.ts";
import type { Admission, CacheManagement, Ordering, Routing, TimeEstimates } from "./policies.ts";
import type { ChoosingOptions } from "./routing/choosing.ts";
import { conductor } from "./routing/conductor.ts";
import { leastPredictedLoad } from "./routing/least-load.ts";
import { loadBalance } from "./routing/load-balance.ts";
import { randomRouting } from "./routing/random.ts";
import type { SchedulerConfig } from "./scheduler.ts";
import { DEFAULT_LIMITS, type SchedulerLimits } from "./scheduler/limits.ts";

/** The first of each is the default. */
export const POLICY_NAMES = {
  admission: ["bounded-queue", "early-rejection"],
  ordering: ["fcfs", "vtc"],
  routing: ["least-load", "conductor", "local-aware", "load-balance", "random"],
  cache: ["keep-what-fits", "prefix-index"],
  elasticity: ["fixed-size"],
  allocation: ["by-tokens"],
} as const;

export type Question = keyof typeof POLICY_NAMES;
export type PolicyNames = { readonly [Q in Question]: (typeof POLICY_NAMES)[Q][number] };
/** As somebody wrote them. */
export type ChosenNames = { readonly [Q in Question]?: string | undefined };

export type PolicyParameters = {
  /** vtc: what a token weighs. */
  readonly service_weights: ServiceWeights;
  /** All routings but least-load: place while there is a slot, and let engines queue. */
  readonly at_once: boolean;
  /** conductor: see ConductorOptions. Null where engines cannot fetch KV from their peers. */
  readonly fetch_threshold: number | null;
  /** random. */
  readonly seed: number;
  /** early-rejection: objectives; null: none. */
  readonly ttft_ms_max: number | null;
  readonly tbt_ms_max: number | null;
  /** Fetching a prefix, where times are learned and not given: once, and for each token. */
  readonly transfer_us: number;
  readonly transfer_us_per_token: number;
};

export const DEFAULT_PARAMETERS: PolicyParameters = {
  service_weights: DEFAULT_SERVICE_WEIGHTS,
  at_once: false,
  fetch_threshold: 2,
  seed: 1,
  ttft_ms_max: null,
  tbt_ms_max: null,
  transfer_us: 1_000,
  transfer_us_per_token: 5.2,
};

export type CatalogueOptions = {
  /** See SchedulerConfig. */
  readonly scope: string;
  /** How many groups of each model and role. */
  readonly targets: readonly GroupTarget[];
  readonly queued_per_model_max?: number;
  readonly limits?: Partial<SchedulerLimits>;
  readonly parameters?: Partial<PolicyParameters>;
  /** How long things take. Absent: learned from what the scheduler sees. */
  readonly estimates?: TimeEstimates;
};

/** All that makes the policies what they are, as data: nothing is left to defaults, so that it means the same when those have changed. */
export type PolicyChoice = {
  readonly names: PolicyNames;
  readonly scope: string;
  readonly targets: readonly GroupTarget[];
  readonly queued_per_model_max: number;
  readonly limits: SchedulerLimits;
  readonly parameters: PolicyParameters;
};

export type Choice =
  | { readonly type: "ok"; readonly config: SchedulerConfig }
  /** All that is wrong, each in one line. */
  | { readonly type: "faults"; readonly faults: readonly string[] };

/** What was not named is the default. */
export function choosePolicies(names: ChosenNames, options: CatalogueOptions): Choice {
  const parameters = { ...DEFAULT_PARAMETERS, ...options.parameters };
  const faults = [...nameFaults(names), ...parameterFaults(names, parameters)];
  if (faults.length > 0) return { type: "faults", faults };
  const { names: chosen, limits } = inFull(names, options);
  const cache = cacheOf(chosen.cache);
  const estimates = needsTimes(chosen) ? (options.estimates ?? learnedTimes({ kinds_max: KINDS_MAX, ...parameters })) : null;
  const { deferred_pulls_max, kv_lease_margin } = limits;
  const placing = { cache, at_once: parameters.at_once, deferred_pulls_max, kv_lease_margin };
  return {
    type: "ok",
    config: {
      scope: options.scope,
      admission: admissionOf(chosen, options, parameters, placing, estimates),
      ordering: orderingOf(chosen.ordering, parameters),
      routing: routingOf(chosen.routing, parameters, placing, estimates),
      cache,
      elasticity: fixedSize(options.targets),
      allocation: weightByTokens,
      ...(estimates === null ? {} : { estimates }),
      limits,
    },
  };
}

/** The choice with its defaults. Its names and parameters may yet be faults: choosePolicies says. */
export function inFull(names: ChosenNames, options: Omit<CatalogueOptions, "estimates">): PolicyChoice {
  const named = Object.fromEntries(Object.entries(names).filter(([, name]) => name !== undefined));
  return {
    names: { ...DEFAULT_NAMES, ...named },
    scope: options.scope,
    targets: options.targets,
    queued_per_model_max: options.queued_per_model_max ?? QUEUED_PER_MODEL_MAX,
    limits: { ...DEFAULT_LIMITS, ...options.limits },
    parameters: { ...DEFAULT_PARAMETERS, ...options.parameters },
  };
}

const DEFAULT_NAMES: PolicyNames = {
  admission: "bounded-queue",
  ordering: "fcfs",
  routing: "least-load",
  cache: "keep-what-fits",
  elasticity: "fixed-size",
  allocation: "by-tokens",
};
const QUEUED_PER_MODEL_MAX = 4_096;
const MODELS_MAX = 64;
const KINDS_MAX = 64;
const IDLE_TENANTS_MAX = 4_096;
const RETRY_AFTER = { retry_after_min_ms: 100, retry_after_max_ms: 60_000 };
const BLOCKS_PER_INSTANCE_MAX = 65_536;

function nameFaults(names: ChosenNames): string[] {
  return Object.entries(names).flatMap(([question, name]) => {
    if (name === undefined) return [];
    if (!Object.hasOwn(POLICY_NAMES, question))
      return [`there is no policy question "${question}"; there are ${list(Object.keys(POLICY_NAMES))}`];
    const known: readonly string[] = POLICY_NAMES[question as Question];
    return known.includes(name) ? [] : [`${question}: there is no policy "${name}"; choose ${list(known)}`];
  });
}

/** Also what configuration asks, so that all faults are told together. */
export function parameterFaults(
  { admission }: ChosenNames,
  { service_weights, fetch_threshold, ttft_ms_max, tbt_ms_max }: PolicyParameters,
): string[] {
  const faults: string[] = [];
  if (admission === "early-rejection" && ttft_ms_max === null && tbt_ms_max === null)
    faults.push("admission: early-rejection needs an objective: set ttft_ms_max, tbt_ms_max or both");
  for (const [token, weight] of Object.entries(service_weights))
    if (!Number.isInteger(weight) || weight < 0) faults.push(`service_weights.${token}: ${weight} is not a whole number from 0`);
  if (service_weights.prompt + service_weights.output === 0) faults.push("service_weights: prompt or output must weigh something");
  if (fetch_threshold !== null && !(fetch_threshold >= 1)) faults.push(`fetch_threshold: ${fetch_threshold} is not 1 or more`);
  return faults;
}

function needsTimes({ routing, admission }: PolicyNames): boolean {
  return admission === "early-rejection" || routing === "conductor" || routing === "local-aware" || routing === "load-balance";
}

function cacheOf(name: PolicyNames["cache"]): CacheManagement {
  const guess = keepWhatFits({ prompts_per_instance_max: 4_096, tokens_per_instance_max: 400_000, block_tokens: 16 });
  if (name === "keep-what-fits") return guess;
  return prefixIndex({ blocks_per_instance_max: BLOCKS_PER_INSTANCE_MAX, kv_share: 1, otherwise: guess });
}

function orderingOf(name: PolicyNames["ordering"], { service_weights }: PolicyParameters): Ordering {
  if (name === "fcfs") return fcfs;
  return vtc({ weights: service_weights, inner: fcfs, idle_tenants_max: IDLE_TENANTS_MAX, models_max: MODELS_MAX });
}

type Placing = ChoosingOptions;

function routingOf(name: PolicyNames["routing"], parameters: PolicyParameters, placing: Placing, estimates: TimeEstimates | null): Routing {
  const { fetch_threshold, seed } = parameters;
  switch (name) {
    case "least-load":
      return leastPredictedLoad(placing);
    case "conductor":
      return conductor({ ...placing, estimates: given(estimates), fetch_threshold });
    case "local-aware":
      return conductor({ ...placing, estimates: given(estimates), fetch_threshold: null });
    case "load-balance":
      return loadBalance(placing);
    case "random":
      return randomRouting({ ...placing, seed });
  }
}

function admissionOf(
  { admission, routing }: PolicyNames,
  { queued_per_model_max }: CatalogueOptions,
  { ttft_ms_max, tbt_ms_max, fetch_threshold }: PolicyParameters,
  placing: Placing,
  estimates: TimeEstimates | null,
): Admission {
  const inner = boundedQueue({
    queued_per_model_max: queued_per_model_max ?? QUEUED_PER_MODEL_MAX,
    ...RETRY_AFTER,
    retry_after_unknown_ms: 1_000,
    drain_window: microsFromMs(1_000),
    models_max: MODELS_MAX,
  });
  if (admission === "bounded-queue") return inner;
  // Only the conductor fetches; whatever routes, it predicts.
  const fetching = routing === "conductor" ? fetch_threshold : null;
  const predictor = conductor({ ...placing, estimates: given(estimates), fetch_threshold: fetching });
  return earlyRejection({
    inner,
    expect: (call, instances, now) => predictor.expect(call, instances, now),
    ttft_max: ttft_ms_max === null ? null : microsFromMs(ttft_ms_max),
    tbt_max: tbt_ms_max === null ? null : microsFromMs(tbt_ms_max),
    ...RETRY_AFTER,
  });
}

/** needsTimes has said so. */
function given(estimates: TimeEstimates | null): TimeEstimates {
  if (estimates === null) throw new Error("a policy that predicts was chosen without estimates");
  return estimates;
}

const list = (names: readonly string[]): string => names.join(", ");
