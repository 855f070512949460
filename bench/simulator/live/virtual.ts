/**
 * The recorded calls in the virtual cluster: the same policies, instances of the same size, each call at the instant at which it reached the live
 * gateway, as policy saw it there, with the answer's length that the engine reported.
 */
import { micros } from "../../../schema/core/time.ts";
import { choosePolicies } from "../../../gpu-gateway/policy/catalogue.ts";
import { runCluster } from "../../../gpu-gateway/simulator/cluster.ts";
import type { Arrival, Clients, ClusterSpec, RunResult } from "../../../gpu-gateway/simulator/types.ts";
import type { Recorded, ToldCall } from "./recorded.ts";
import { Told } from "./recorded.ts";

/** Of the simulated instance (engines/simulated/flags.ts), which nothing told to be otherwise. */
const STEP_TOKENS = 2_048;

/** See ClusterSpec. */
export type Delays = { readonly link_us: number; readonly notice_us: number };

export type Virtual = {
  readonly result: RunResult;
  readonly told: ReadonlyMap<string, ToldCall>;
  readonly instances: Recorded["instances"];
};

export function runVirtually(recorded: Recorded, delays: Delays): Virtual {
  const { names, ...options } = recorded.policies;
  const choice = choosePolicies(names, options);
  if (choice.type === "faults") throw new Error(choice.faults.join("; "));
  const told = new Told();
  const result = runCluster({
    cluster: clusterOf(recorded, delays),
    clients: clientsOf(recorded, delays),
    policies: choice.config,
    seed: 1,
    observer: { event: (event, effects, at) => told.event(event, effects, at) },
  });
  return { result, told: told.calls, instances: told.instances };
}

function clientsOf({ calls }: Recorded, { link_us }: Delays): Clients {
  const arrivals = [...calls.values()]
    .map(({ call, prompt_tokens, output_tokens }): Arrival => {
      // The virtual engine computes what policy was told: here that is what the live one computed.
      if (prompt_tokens !== call.prompt_tokens)
        throw new Error(`call ${call.call_id}: estimated ${call.prompt_tokens} tokens, had ${prompt_tokens}`);
      return { at: micros(call.arrived - link_us), sim: { call, output_tokens } };
    })
    .toSorted((a, b) => a.at - b.at);
  let next = 0;
  return { first: () => arrivals[next++] ?? null, ended: () => [] };
}

function clusterOf({ policies, instances }: Recorded, { link_us, notice_us }: Delays): ClusterSpec {
  const pools = policies.targets.map(({ model, role, groups }) => {
    const like = instances.find((instance) => instance.model === model && instance.role === role);
    if (like === undefined) throw new Error(`the recording has no instance of ${model}, ${role}`);
    const { slots, prefill_tokens_max, kv_tokens, context_tokens, kv_lease, gpus } = like;
    return {
      model,
      role,
      instances: groups,
      tp: gpus,
      pp: 1,
      slots,
      step_tokens: STEP_TOKENS,
      prefill_tokens_max,
      kv_tokens,
      context_tokens,
      kv_lease,
    };
  });
  return {
    name: "as recorded",
    nodes: 1,
    gpus_per_node: 8,
    pools,
    all_reduce: "nccl",
    link_delay: micros(link_us),
    notice_delay: micros(notice_us),
  };
}
