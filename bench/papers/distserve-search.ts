/** What DistServe's questions have in common: OPT-13B on one node of 4 A100s, ShareGPT's lengths, and the planner that searches. */
import type { Trial } from "../../gpu-gateway/simulator/planner/answer.ts";
import { type Candidate, candidatesOf } from "../../gpu-gateway/simulator/planner/candidates.ts";
import { type ClusterFile, parseClusterFile } from "../../gpu-gateway/simulator/planner/cluster-file.ts";
import { measure, type Runner } from "../../gpu-gateway/simulator/planner/measure.ts";
import { plan } from "../../gpu-gateway/simulator/planner/plan.ts";
import { mustPolicies, type PolicySet } from "../../gpu-gateway/simulator/planner/policy-sets.ts";
import type { Slo } from "../../gpu-gateway/simulator/planner/slo.ts";
import { openWorkload } from "../../gpu-gateway/simulator/planner/workload.ts";
import { SHAREGPT } from "../../gpu-gateway/simulator/traces/lengths.ts";
import { poisson } from "../../gpu-gateway/simulator/traces/synthetic.ts";
import { runCluster } from "../../gpu-gateway/simulator/cluster.ts";
import type { CallTimes } from "../../gpu-gateway/simulator/types.ts";
import { progress } from "./sheet.ts";

const GPUS = 4;
/** More KV than any run uses: memory that is not modelled. */
const UNLIMITED_KV_TOKENS = 10_000_000;
/** As many waiting prompts as there are make one batch, as in the authors' simulator. */
const WHOLE_QUEUE_TOKENS = 50_000;
const PATIENCE_US = 3_600e6;

/** Prompts and answers wait in the engines, the least busy of which is chosen, as DistServe's own do. */
const ENGINES_QUEUE: PolicySet = { name: "engines queue", routing: "load-balance", at_once: true };

/** One GPU, two by tensor, two by stage: what fits twice into a node. Wider ones leave no GPU for the other half. */
const SHAPES = [
  { tp: 1, pp: 1 },
  { tp: 2, pp: 1 },
  { tp: 1, pp: 2 },
];

type Questions = {
  readonly kv: "unlimited" | "a100";
  readonly policies: PolicySet;
  readonly link_delay_ms: number;
  /** As the authors search: one instance of each role. Else every split that fits, GPUs left over or not. */
  readonly pairs: boolean;
};

/** Memory as it is, and what the authors' simulator has none of left out. */
export const AS_ASKED: Questions = { kv: "a100", policies: ENGINES_QUEUE, link_delay_ms: 0, pairs: true };

export function disaggregated({ kv, policies, link_delay_ms, pairs }: Questions): ClusterFile {
  const engine = {
    batching: "prefill_first",
    slots: 4_096,
    step_tokens: WHOLE_QUEUE_TOKENS,
    prefill_tokens_max: WHOLE_QUEUE_TOKENS,
    kv_tokens: kv === "unlimited" ? UNLIMITED_KV_TOKENS : null,
  };
  const search = { prefill: SHAPES, decode: SHAPES, partial: true, split_by: "instance", ...(pairs ? { instances_max: 1 } : {}) };
  return fileOf({ engine, search, policies: [policies], link_delay_ms });
}

/** The same search, of one placement. */
export function placed(file: ClusterFile, prefill: { tp: number }, decode: { tp: number }): ClusterFile {
  const pools = [
    { role: "prefill", instances: 1, ...prefill },
    { role: "decode", instances: 1, ...decode },
  ];
  const { engine, policies, link_delay_ms } = file;
  return fileOf({ engine, pools, policies, link_delay_ms });
}

/** All four GPUs, every instance doing both. */
export function colocated(model: string, tp: number, batching: "chunked" | "prefill_first", step_tokens: number): ClusterFile {
  const engine = { batching, slots: 256, step_tokens, prefill_tokens_max: WHOLE_QUEUE_TOKENS };
  const pools = [{ role: "both", instances: GPUS / tp, tp }];
  return fileOf({ model, engine, pools, policies: [ENGINES_QUEUE], link_delay_ms: 0.25 });
}

function fileOf(parts: object): ClusterFile {
  const parsed = parseClusterFile({
    name: "1 node of 4 A100",
    gpu: { type: "A100-80GB-SXM", price_per_hour: 0, currency: "USD" },
    gpus_per_node: GPUS,
    nodes: 1,
    model: "opt-13b",
    ...parts,
  });
  if (parsed.type === "faults") throw new Error(parsed.faults.join("; "));
  return parsed.cluster;
}

const load = (per_second: number, calls: number, seed: number) =>
  openWorkload("ShareGPT's lengths, Poisson", poisson({ workload: SHAREGPT, per_second, calls, seed }), 1);

export type Found = { readonly configuration: string; readonly gpus: number; readonly per_gpu: number };

/** The planner's own search: the placement with the highest goodput a GPU in use. */
export function search(file: ClusterFile, slo: Slo, calls: number, seed: number, runner: Runner, tolerance = 0.02): Found {
  const answer = plan(
    {
      workload: load(GPUS, calls, seed),
      cluster: file,
      slo,
      seed,
      goodput: "best",
      objective: "goodput_per_gpu",
      tolerance,
      warm_up_share: 0,
      calls_min: 0,
      patience_us: PATIENCE_US,
      until_us: null,
    },
    runner,
    ({ run, configuration }) => progress(`seed ${seed}, run ${run}: ${configuration}`),
    () => false,
  );
  const { chosen } = answer;
  if (chosen === null) return { configuration: "none", gpus: 0, per_gpu: 0 };
  const configuration = chosen.configuration.replace(/ ·.*/, "");
  return { configuration, gpus: chosen.gpus_used, per_gpu: chosen.goodput?.calls_per_s_per_gpu_used ?? 0 };
}

export const placementsOf = (file: ClusterFile): readonly Candidate[] => candidatesOf(file, 1).candidates;

const RATE_MAX = 5;
const RATE_STEP = 0.25;

/** The authors' bisection: between 0 and 5 a GPU until it is known to 0.25; P90 of TTFT and P90 of TPOT each by itself. */
export function authorsBisection(candidate: Candidate, slo: Slo, calls: number, seed: number, runner: Runner): number {
  let [low, high] = [0, RATE_MAX];
  while (high - low > RATE_STEP) {
    const rate = (low + high) / 2;
    const { attainment_ttft, attainment_tpot } = trial(candidate, rate * candidate.gpus_used, slo, calls, seed, runner);
    if (attainment_ttft >= slo.attainment && attainment_tpot >= slo.attainment) low = rate;
    else high = rate;
  }
  return low;
}

function trial(candidate: Candidate, per_second: number, slo: Slo, calls: number, seed: number, runner: Runner): Trial["figures"] {
  progress(`seed ${seed}: ${candidate.name} at ${per_second}/s`);
  const policies = ({ cluster, policies: set }: Candidate) => mustPolicies(set, { cluster, slo, seed });
  const options = { runner, workload: load(per_second, calls, seed), policies, slo, seed, price: { per_gpu_hour: 0 } };
  const rest = { warm_up_share: 0, patience_us: PATIENCE_US, until_us: null };
  return measure(candidate, 1, { ...options, ...rest }, { progress: () => undefined, stop: () => false }, true).figures;
}

/** DistServe's time to first token ends with prefill, which has computed that token; here, as with vLLM, decode is the first to send one. */
export const untilPrefilled: Runner = (options) => {
  const call_of = new Map<string, string>();
  const ended = new Map<string, CallTimes["first_token"]>();
  const { observer } = options;
  const seen = (times: CallTimes): CallTimes => ({ ...times, first_token: ended.get(times.call.call_id) ?? times.first_token });
  const result = runCluster({
    ...options,
    observer: {
      ...observer,
      event(event, effects, now) {
        for (const effect of effects)
          if (effect.type === "start_leg" && effect.role === "prefill") call_of.set(effect.leg_id, effect.call_id);
        const call = event.type === "leg_finished" ? call_of.get(event.leg_id) : undefined;
        if (call !== undefined) ended.set(call, now);
        observer?.event?.(event, effects, now);
      },
      callEnded: (times) => observer?.callEnded?.(seen(times)),
    },
  });
  return { ...result, calls: result.calls.map(seen) };
};
