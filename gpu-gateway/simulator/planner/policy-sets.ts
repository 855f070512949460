/**
 * The policies that a plan tries, by the names of policy/catalogue.ts: what is not named is the default, and nothing named is the
 * baseline. Objectives of admission are the plan's SLO unless stated. Durations that policies predict with are learned, as live.
 */
import { z } from "zod";
import { choosePolicies, type PolicyParameters } from "../../policy/catalogue.ts";
import type { SchedulerConfig } from "../../policy/scheduler.ts";
import type { ClusterSpec } from "../types.ts";
import type { Slo } from "./slo.ts";

export const policySet = z.strictObject({
  /** As the answer calls it; absent: its names other than the default. */
  name: z.string().min(1).max(60).optional(),
  admission: z.string().optional(),
  ordering: z.string().optional(),
  routing: z.string().optional(),
  cache: z.string().optional(),
  elasticity: z.string().optional(),
  allocation: z.string().optional(),
  at_once: z.boolean().optional(),
  fetch_threshold: z.number().nullable().optional(),
  ttft_ms_max: z.number().positive().nullable().optional(),
  tbt_ms_max: z.number().positive().nullable().optional(),
});
export type PolicySet = z.infer<typeof policySet>;

export const POLICY_KEYS: readonly string[] = Object.keys(policySet.shape);

export const BASELINE: PolicySet = { name: "baseline" };

export function nameOf(set: PolicySet): string {
  if (set.name !== undefined) return set.name;
  const { admission, ordering, routing, cache, elasticity, allocation } = set;
  const names = [routing, cache, ordering, admission, elasticity, allocation].filter((name) => name !== undefined);
  return `${names.join("+") || "baseline"}${set.at_once ? " at once" : ""}`;
}

export type PolicyInput = { readonly cluster: ClusterSpec; readonly slo: Slo; readonly seed: number };

/** Made anew for every run: policies keep books. */
export function policiesOf(set: PolicySet, { cluster, slo, seed }: PolicyInput) {
  const { admission, ordering, routing, cache, elasticity, allocation, at_once, fetch_threshold, ttft_ms_max, tbt_ms_max } = set;
  const parameters: Partial<PolicyParameters> = {
    seed,
    ttft_ms_max: ttft_ms_max === undefined ? slo.ttft_us / 1_000 : ttft_ms_max,
    tbt_ms_max: tbt_ms_max === undefined ? slo.tpot_us / 1_000 : tbt_ms_max,
    ...(at_once === undefined ? {} : { at_once }),
    ...(fetch_threshold === undefined ? {} : { fetch_threshold }),
  };
  const targets = cluster.pools.map(({ model, role, instances }) => ({ model, role, groups: instances }));
  return choosePolicies({ admission, ordering, routing, cache, elasticity, allocation }, { scope: "plan", targets, parameters });
}

/** Of a set that is known to be sound. */
export function mustPolicies(set: PolicySet, input: PolicyInput): SchedulerConfig {
  const choice = policiesOf(set, input);
  if (choice.type === "faults") throw new RangeError(choice.faults.join("; "));
  return choice.config;
}

/** What is wrong with it, whatever the cluster. */
export function policySetFaults(set: PolicySet): readonly string[] {
  const cluster = {
    name: "",
    nodes: 1,
    gpus_per_node: 1,
    pools: [],
    all_reduce: "nccl",
    link_delay: 0 as ClusterSpec["link_delay"],
  } as const;
  const choice = policiesOf(set, { cluster, slo: { ttft_us: 1e6, tpot_us: 1e5, attainment: 0.9 }, seed: 1 });
  return choice.type === "faults" ? choice.faults : [];
}
