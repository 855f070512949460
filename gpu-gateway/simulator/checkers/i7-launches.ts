/**
 * I7: a cold pool is woken once however many wait; a loading instance is never stopped; a group that is being stopped is gone within its
 * bound. Counted from launches, their outcomes and instances' states; what a pool should have is the cluster's own description. A launch that is
 * overdue may be stopped: its instances were never heard of. That a node stops its groups when the cell's lease is over (D9) is the node
 * agent's to keep, and not part of this world.
 */
import type { GroupId, InstanceId } from "../../../schema/core/ids.ts";
import type { Micros } from "../../../schema/core/time.ts";
import type { Effect } from "../../policy/effects.ts";
import type { SchedulerEvent } from "../../policy/events.ts";
import type { InstanceState } from "../../policy/vocabulary.ts";
import type { ClusterSpec } from "../types.ts";
import { Books } from "./checker.ts";

type Group = {
  readonly pool: string;
  readonly effect_id: string | null;
  stop_by: number | null;
  readonly instances: Map<InstanceId, InstanceState>;
};

export class LaunchesChecker extends Books {
  readonly invariant = "I7";
  protected override unchecked_because = "no group was launched or stopped";
  readonly #cluster: ClusterSpec;
  readonly #targets: (epoch: number) => readonly number[];
  readonly #wanted = new Map<string, number>();
  readonly #groups = new Map<GroupId, Group>();
  readonly #stop_bound: number;

  /** `targets`: how many groups the gateway of an epoch wants of each pool of the cluster. */
  constructor(cluster: ClusterSpec, targets: (epoch: number) => readonly number[], stop_bound: number) {
    super();
    this.#cluster = cluster;
    this.#targets = targets;
    this.#stop_bound = stop_bound;
  }

  gatewayStarted(epoch: number): void {
    this.#wanted.clear();
    for (const [n, { model, role }] of this.#cluster.pools.entries()) add(this.#wanted, poolOf(model, role), this.#targets(epoch)[n] ?? 0);
  }

  gatewayDied(): void {
    this.#groups.clear();
  }

  event(event: SchedulerEvent, effects: readonly Effect[], now: Micros): void {
    for (const [id, { stop_by }] of this.#groups)
      if (stop_by !== null && now > stop_by) {
        this.check(false, now, () => `group ${id} was to be stopped, and is still there after its bound`);
        this.#groups.delete(id);
      }
    this.#apply(event);
    for (const effect of effects) {
      if (effect.type === "launch_group") this.#launch(effect, now);
      else if (effect.type === "stop_group") this.#stop(effect.group_id, now);
    }
  }

  #apply(event: SchedulerEvent): void {
    switch (event.type) {
      case "group_launched":
        return this.#launched(event);
      case "instance_state":
        for (const { instances } of this.#groups.values())
          if (instances.has(event.instance_id)) instances.set(event.instance_id, event.state);
        return;
      case "launch_failed":
        for (const [id, { effect_id }] of this.#groups) if (effect_id === event.effect_id) this.#groups.delete(id);
        return;
      case "group_lost":
      case "group_stopped":
        this.#groups.delete(event.group_id);
        return;
      case "call_arrived":
      case "call_cancelled":
      case "leg_accepted":
      case "leg_first_token":
      case "leg_progress":
      case "leg_finished":
      case "leg_failed":
      case "leg_cancelled":
      case "kv_released":
      case "instance_sampled":
      case "timer":
    }
  }

  #launched({ group_id, instances }: Extract<SchedulerEvent, { type: "group_launched" }>): void {
    const [first] = instances;
    const known = this.#groups.get(group_id);
    const pool = known?.pool ?? (first === undefined ? null : poolOf(first.model, first.role));
    if (pool === null) return;
    const states = new Map<InstanceId, InstanceState>(instances.map(({ instance_id }) => [instance_id, "loading"]));
    this.#groups.set(group_id, { pool, effect_id: null, stop_by: known?.stop_by ?? null, instances: states });
  }

  #launch({ group_id, effect_id, model, role }: Extract<Effect, { type: "launch_group" }>, now: Micros): void {
    const pool = poolOf(model, role);
    const there = [...this.#groups.values()].filter((group) => group.pool === pool && group.stop_by === null).length;
    const wanted = this.#wanted.get(pool) ?? 0;
    this.check(there < wanted, now, () => `pool ${pool} is launched once more, while ${there} of ${wanted} groups are there or launching`);
    this.check(!this.#groups.has(group_id), now, () => `group ${group_id} is launched twice`);
    this.#groups.set(group_id, { pool, effect_id, stop_by: null, instances: new Map() });
  }

  #stop(id: GroupId, now: Micros): void {
    const group = this.#groups.get(id);
    if (group === undefined) return;
    const loading = [...group.instances].find(([, state]) => state === "loading");
    this.check(loading === undefined, now, () => `group ${id} is stopped while its instance ${loading?.[0]} is loading`);
    group.stop_by ??= now + this.#stop_bound;
  }
}

const poolOf = (model: string, role: string): string => `${role} ${model}`;
const add = (sums: Map<string, number>, key: string, amount: number): void => void sums.set(key, (sums.get(key) ?? 0) + amount);
