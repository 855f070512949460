/**
 * A fixed number of groups per model and role. What is lost is replaced; what is too many (a target lowered between two starts
 * of the gateway) is drained, highest id first. Groups of models without a target are left alone.
 * Launching counts as being there: never more launch than are missing (I7).
 */
import type { Elasticity, ElasticityDecision, GroupView } from "../policies.ts";
import type { Role } from "../vocabulary.ts";

export type GroupTarget = { readonly model: string; readonly role: Role; readonly groups: number };

export function fixedSize(targets: readonly GroupTarget[]): Elasticity {
  return {
    plan(groups: readonly GroupView[]): readonly ElasticityDecision[] {
      const decisions: ElasticityDecision[] = [];
      for (const target of targets) {
        const there = groups.filter((g) => g.model === target.model && g.role === target.role && g.state !== "stopping");
        for (let n = there.length; n < target.groups; n++) decisions.push({ type: "launch", model: target.model, role: target.role });
        const up = there.filter((g) => g.state === "up").sort((a, b) => (a.group_id < b.group_id ? 1 : -1));
        for (const surplus of up.slice(0, Math.max(0, there.length - target.groups)))
          decisions.push({ type: "stop", group_id: surplus.group_id, drain: true });
      }
      return decisions;
    },
  };
}
