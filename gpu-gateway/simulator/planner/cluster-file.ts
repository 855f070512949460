/** The description of a cluster that `millrace plan` takes: a JSON file. All that is wrong with it is said at once. */
import { z } from "zod";
import { MODELS } from "../../engine-model/profile.ts";
import { BASELINE, nameOf, policySet, policySetFaults } from "./policy-sets.ts";

const count = z.int().min(1);
const shape = z.strictObject({ tp: count.max(64), pp: count.max(64).default(1) });

/** As vLLM's options of these names, and what the gateway allows one instance. What is not said is as in ENGINE_DEFAULTS. */
const engine = z.strictObject({
  /** max_num_seqs */
  slots: count.max(4_096).optional(),
  /** max_num_batched_tokens */
  step_tokens: count.max(1_048_576).optional(),
  /** Prefill tokens in flight at one instance. */
  prefill_tokens_max: count.max(16_777_216).optional(),
  /** null: what fits beside the weights. */
  kv_tokens: count.nullable().optional(),
  kv_lease_ms: count.optional(),
  batching: z.enum(["chunked", "prefill_first"]).optional(),
});
export type EngineSettings = {
  readonly slots: number;
  readonly step_tokens: number;
  readonly prefill_tokens_max: number;
  readonly kv_tokens: number | null;
  readonly kv_lease_ms: number;
  readonly batching: "chunked" | "prefill_first";
};
const ENGINE_DEFAULTS: EngineSettings = {
  slots: 256,
  step_tokens: 2_048,
  prefill_tokens_max: 16_384,
  kv_tokens: null,
  kv_lease_ms: 30_000,
  batching: "chunked",
};

const pool = z.strictObject({
  role: z.enum(["prefill", "decode", "both"]),
  instances: count,
  tp: count.max(64),
  pp: count.max(64).default(1),
  engine: engine.default({}),
});

const search = z.strictObject({
  /** Instances that do both; empty: not tried. */
  colocated: z.array(shape).default([]),
  /** Every prefill shape is tried with every decode shape, in every split; empty: not tried. */
  prefill: z.array(shape).default([]),
  decode: z.array(shape).default([]),
  /** What a split moves: whole nodes, or single instances. Absent: nodes from 3 nodes on, else instances. */
  split_by: z.enum(["node", "instance"]).optional(),
  /** Also leave GPUs unused: for goodput per GPU, which counts only those in use. */
  partial: z.boolean().default(false),
  /** Of one role at most; absent: as many as fit. 1 is DistServe's search space: a prefill and a decode instance, whose pair is then replicated. */
  instances_max: count.optional(),
  engine: z.strictObject({ colocated: engine.default({}), prefill: engine.default({}), decode: engine.default({}) }).prefault({}),
});

const clusterFile = z
  .strictObject({
    name: z.string().min(1).max(200),
    note: z.string().optional(),
    gpu: z.strictObject({
      type: z.literal("A100-80GB-SXM"),
      price_per_hour: z.number().min(0),
      currency: z.string().regex(/^[A-Z]{3}$/, "three capital letters, as EUR"),
    }),
    gpus_per_node: count.max(64),
    nodes: z.union([count, z.strictObject({ min: count, max: count })]),
    all_reduce: z.enum(["nccl", "nvrar"]).default("nccl"),
    link_delay_ms: z.number().min(0).max(60_000).default(0.25),
    model: z.string(),
    context_tokens: count.optional(),
    engine: engine.default({}),
    pools: z.array(pool).min(1).optional(),
    search: search.optional(),
    policies: z.array(policySet).min(1).default([BASELINE]),
  })
  .superRefine((file, context) => {
    const fault = (path: (string | number)[], message: string) => context.addIssue({ code: "custom", path, message });
    if (!(file.model in MODELS)) fault(["model"], `is not known; there are ${Object.keys(MODELS).join(", ")}`);
    for (const [i, set] of file.policies.entries()) for (const what of policySetFaults(set)) fault(["policies", i], what);
    if (new Set(file.policies.map(nameOf)).size < file.policies.length) fault(["policies"], "two have one name");
    if ((file.pools === undefined) === (file.search === undefined)) fault([], "needs either pools or search");
    if (typeof file.nodes !== "number") {
      if (file.nodes.min > file.nodes.max) fault(["nodes"], "min is above max");
      if (file.pools !== undefined) fault(["nodes"], "is a number when pools are given: only a search can change it");
    }
    if (file.pools !== undefined && typeof file.nodes === "number") {
      const used = file.pools.reduce((gpus, p) => gpus + p.instances * p.tp * p.pp, 0);
      const there = file.nodes * file.gpus_per_node;
      if (used > there) fault(["pools"], `take ${used} GPUs; ${file.nodes} nodes of ${file.gpus_per_node} have ${there}`);
      const roles = new Set(file.pools.map((p) => p.role));
      if (!roles.has("both") && !(roles.has("prefill") && roles.has("decode"))) fault(["pools"], "need role both, or prefill and decode");
    }
    const s = file.search;
    if (s !== undefined) {
      if ((s.prefill.length === 0) !== (s.decode.length === 0)) fault(["search"], "prefill and decode shapes go together");
      if (s.colocated.length + s.prefill.length === 0) fault(["search"], "names no shape: give colocated, or prefill and decode");
    }
  });

export type ClusterFile = z.infer<typeof clusterFile>;
export type Shape = z.infer<typeof shape>;

export type ClusterFileOutcome =
  | { readonly type: "cluster"; readonly cluster: ClusterFile }
  | { readonly type: "faults"; readonly faults: readonly string[] };

export function parseClusterFile(value: unknown): ClusterFileOutcome {
  const parsed = clusterFile.safeParse(value);
  if (parsed.success) return { type: "cluster", cluster: parsed.data };
  const faults = parsed.error.issues.map((issue) => `${issue.path.length > 0 ? `${issue.path.join(".")}: ` : ""}${issue.message}`);
  return { type: "faults", faults };
}

/** Later wins. */
export const engineOf = (...parts: readonly z.infer<typeof engine>[]): EngineSettings => {
  const all: Record<string, unknown> = { ...ENGINE_DEFAULTS };
  for (const part of parts) for (const [name, value] of Object.entries(part)) if (value !== undefined) all[name] = value;
  return all as EngineSettings;
};
