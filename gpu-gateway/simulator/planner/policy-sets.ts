/** The policy sets that a plan can name. Each is what a gateway runs, made anew for every run: policies keep books. */
import { baselinePolicies } from "../../policy/defaults.ts";
import type { GroupTarget } from "../../policy/elasticity/fixed-size.ts";
import type { SchedulerConfig } from "../../policy/scheduler.ts";
import type { ClusterSpec } from "../types.ts";
import type { Slo } from "./slo.ts";

export type PolicyInput = { readonly cluster: ClusterSpec; readonly slo: Slo };
export type PolicySet = { readonly what: string; readonly make: (input: PolicyInput) => SchedulerConfig };

export const POLICY_SETS: Readonly<Record<string, PolicySet>> = {
  baseline: {
    what: "first come first served, least predicted load, engines keep what fits",
    make: ({ cluster }) => baselinePolicies({ scope: "plan", targets: targetsOf(cluster) }),
  },
};

function targetsOf(cluster: ClusterSpec): readonly GroupTarget[] {
  return cluster.pools.map(({ model, role, instances }) => ({ model, role, groups: instances }));
}
