/** The cluster of Mooncake's scheduling experiment as it is modelled here, and one replay of a trace on it. */
import { micros, microsFromMs } from "../../schema/core/time.ts";
import { mustProfile } from "../../gpu-gateway/engine-model/profile.ts";
import { choosePolicies } from "../../gpu-gateway/policy/catalogue.ts";
import type { Role } from "../../gpu-gateway/policy/vocabulary.ts";
import { runCluster } from "../../gpu-gateway/simulator/cluster.ts";
import { openLoop } from "../../gpu-gateway/simulator/traces/open-loop.ts";
import type { OpenTrace } from "../../gpu-gateway/simulator/traces/trace.ts";
import type { ClusterSpec, PoolSpec } from "../../gpu-gateway/simulator/types.ts";

const MODEL = "llama-3-70b";
const GPUS_PER_NODE = 8;
const INSTANCES = 8;
/** Longer than any call of the trace. */
const CONTEXT_TOKENS = 131_072;
const profile = mustProfile({ model: MODEL, tp: GPUS_PER_NODE, pp: 1, all_reduce: "nccl", gpus_per_node: GPUS_PER_NODE });
const HOST_BYTES = 1e12;
const NIC_BYTES_PER_US = 25_000;

export type Cache = { readonly name: string; readonly kv_tokens: number };
/** Where a prefill instance keeps prefixes. Host memory is taken as if it were the GPUs' own: Mooncake loads layer by layer, behind computing. */
export const CACHES: readonly Cache[] = [
  { name: "GPU", kv_tokens: profile.kv_tokens },
  { name: "GPU and host", kv_tokens: profile.kv_tokens + Math.floor(HOST_BYTES / profile.kv_bytes_per_token / 16) * 16 },
];

export type RoutingName = "random" | "load-balance" | "local-aware" | "conductor";

/** Calls wait in the engines that they were sent to, as many as come: a queue at the gateway would repair what a routing does badly. */
const NO_LIMIT = { slots: 4_096, queued: 100_000, pulls: 100_000, patience: microsFromMs(36_000_000) };

function pool(role: Role, kv_tokens: number | null): PoolSpec {
  return {
    model: MODEL,
    role,
    instances: INSTANCES,
    tp: GPUS_PER_NODE,
    pp: 1,
    slots: NO_LIMIT.slots,
    step_tokens: 8_192,
    prefill_tokens_max: Number.MAX_SAFE_INTEGER,
    kv_tokens,
    context_tokens: CONTEXT_TOKENS,
    kv_lease: microsFromMs(600_000),
  };
}

export type Replay = {
  readonly trace: OpenTrace;
  readonly rate: number;
  readonly routing: RoutingName;
  readonly cache: Cache;
  readonly seed: number;
};
export type Replayed = {
  readonly ttft_s: readonly number[];
  readonly lost: number;
  readonly cached_share: number;
  /** Of prefill instances' time: computing; of all, and of the busiest. */
  readonly busy: number;
  readonly busy_most: number;
};

export function replay({ trace, rate, routing, cache, seed }: Replay): Replayed {
  const cluster: ClusterSpec = {
    name: "16 nodes of 8 A100",
    nodes: 2 * INSTANCES,
    gpus_per_node: GPUS_PER_NODE,
    pools: [pool("prefill", cache.kv_tokens), pool("decode", null)],
    all_reduce: "nccl",
    link_delay: micros(250),
  };
  const choice = choosePolicies(
    { routing, cache: "prefix-index" },
    {
      scope: "mooncake",
      targets: cluster.pools.map(({ model, role, instances }) => ({ model, role, groups: instances })),
      queued_per_model_max: NO_LIMIT.queued,
      limits: { deferred_pulls_max: NO_LIMIT.pulls, prefill_accept: NO_LIMIT.patience },
      parameters: { at_once: true, seed, transfer_us_per_token: profile.kv_bytes_per_token / NIC_BYTES_PER_US },
    },
  );
  if (choice.type === "faults") throw new Error(choice.faults.join("; "));
  const shape = { model: MODEL, context_tokens: CONTEXT_TOKENS, patience: NO_LIMIT.patience };
  const { calls, instances, virtual } = runCluster({ cluster, policies: choice.config, clients: openLoop(trace, rate, shape), seed });
  const done = calls.filter(({ outcome }) => outcome.type === "done");
  const sum = (of: (times: (typeof done)[number]) => number): number => done.reduce((total, times) => total + of(times), 0);
  const busy = instances.filter(({ role }) => role === "prefill").map((instance) => instance.busy / virtual);
  return {
    ttft_s: done.flatMap(({ arrived, first_token }) => (first_token === null ? [] : [(first_token - arrived) / 1e6])),
    lost: calls.length - done.length,
    cached_share: sum(({ cached_tokens }) => cached_tokens) / sum(({ call }) => call.prompt_tokens),
    busy: busy.reduce((total, share) => total + share, 0) / busy.length,
    busy_most: Math.max(...busy),
  };
}
