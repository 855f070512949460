/** What tests of the virtual cluster share: small clusters of Llama-3-8B, calls, and a run with all that it said. */
import { asId } from "../../schema/core/ids.ts";
import { type Micros, micros } from "../../schema/core/time.ts";
import { baselinePolicies } from "../policy/defaults.ts";
import type { Effect } from "../policy/effects.ts";
import type { SchedulerEvent } from "../policy/events.ts";
import type { MeteringRecord } from "../policy/metering/records.ts";
import type { Role } from "../policy/vocabulary.ts";
import { runCluster } from "./cluster.ts";
import type { KvRead } from "./faults/hooks.ts";
import type { Arrival, Clients, ClusterSpec, PoolSpec, RunOptions, RunResult, SimCall, World } from "./types.ts";

export const MODEL = "llama-3-8b";
export const second = (n: number): Micros => micros(n * 1_000_000);

export const pool = (role: Role, instances: number, more: Partial<PoolSpec> = {}): PoolSpec => ({
  model: MODEL,
  role,
  instances,
  tp: 1,
  pp: 1,
  slots: 32,
  step_tokens: 2_048,
  prefill_tokens_max: 16_384,
  kv_tokens: null,
  context_tokens: 8_192,
  kv_lease: second(30),
  ...more,
});
export const clusterOf = (pools: readonly PoolSpec[], more: Partial<ClusterSpec> = {}): ClusterSpec => ({
  name: "test",
  nodes: 1,
  gpus_per_node: 4,
  pools,
  all_reduce: "nccl",
  link_delay: micros(500),
  ...more,
});

type CallInit = Partial<SimCall["call"]> & { readonly output_tokens?: number };
export function call(id: string, at: number, { output_tokens = 20, ...more }: CallInit = {}): Arrival {
  return {
    at: micros(at),
    sim: {
      output_tokens,
      call: {
        call_id: asId<"call">(id),
        tenant: asId<"tenant">("ten_a"),
        program: asId<"program">(`prg_${id}`),
        agent: null,
        model: MODEL,
        arrived: micros(at),
        deadline: micros(at + second(600)),
        prompt_tokens: 500,
        max_tokens: 256,
        splittable: true,
        ...more,
      },
    },
  };
}
export function these(arrivals: readonly Arrival[]): Clients {
  const left = [...arrivals];
  return { first: () => left.shift() ?? null, ended: () => [] };
}

export type Said = { readonly event: SchedulerEvent; readonly effects: readonly Effect[]; readonly now: number };
export type Told = RunResult & {
  readonly said: readonly Said[];
  readonly records: readonly MeteringRecord[];
  readonly reads: readonly KvRead[];
};

export function run(cluster: ClusterSpec, clients: Clients, setup?: (world: World) => void, more: Partial<RunOptions> = {}): Told {
  const said: Said[] = [];
  const records: MeteringRecord[] = [];
  const reads: KvRead[] = [];
  const targets = cluster.pools.map(({ model, role, instances }) => ({ model, role, groups: instances }));
  const result = runCluster({
    cluster,
    clients,
    seed: 1,
    policies: (epoch) => baselinePolicies({ scope: `test/${epoch}`, targets }),
    observer: {
      event: (event, effects, now) => said.push({ event, effects, now }),
      record: (record) => records.push(record),
      kvRead: (read) => reads.push(read),
    },
    ...(setup === undefined ? {} : { setup }),
    ...more,
  });
  return { ...result, said, records, reads };
}
