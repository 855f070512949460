/**
 * Which groups and instances the gateway knows. Mirrors runtime/fleet.ts; a probe finds what the pool says.
 *
 *   launch or adopt → loading ── ready ── stopping ── gone
 *                        └────── lost ────────────────┘
 */
import type { GroupId, InstanceId } from "../../schema/core/ids.ts";
import type { Micros } from "../../schema/core/time.ts";
import type { Effect } from "../policy/effects.ts";
import type { SchedulerEvent } from "../policy/events.ts";
import type { Capabilities, Instance, InstanceState } from "../policy/vocabulary.ts";
import type { VirtualClock } from "./clock.ts";
import type { Leg } from "./leg.ts";
import { HEALTH_FAILURES_MAX, PROBE_PERIOD_MS, STOP_DRAIN_MS_MAX } from "./limits.ts";
import type { Machines, VirtualGroup } from "./machines.ts";
import type { Recordable } from "./records.ts";
import type { EngineLoad, Wire } from "./wire.ts";

export type FleetMember = { readonly group: VirtualGroup; readonly instance: Instance; state: InstanceState; readonly legs: Set<Leg> };
type FleetGroup = {
  readonly member: FleetMember;
  phase: "loading" | "ready" | "stopping";
  condemned: string | null;
  health_failures: number;
};

export interface FleetHost {
  readonly clock: VirtualClock;
  readonly machines: Machines;
  readonly wire: Wire;
  record(input: Recordable): void;
  dispatch(event: SchedulerEvent): void;
  /** The gateway that this is part of runs. */
  readonly running: boolean;
}

const CAPABILITIES: Capabilities = {
  legs: "prefill_first",
  sleep: false,
  sleep_while_paired: false,
  priority: false,
  kv_events: false,
  cancel: true,
};

export class Fleet {
  readonly #host: FleetHost;
  readonly #groups = new Map<GroupId, FleetGroup>();
  readonly #members = new Map<InstanceId, FleetMember>();

  constructor(host: FleetHost) {
    this.#host = host;
  }

  member(id: InstanceId): FleetMember | undefined {
    return this.#members.get(id);
  }

  /** What runs already: all is journalled first, then each comes up. */
  adopt(): void {
    const taken = [...this.#host.machines.groups.values()].filter(({ engine }) => engine.alive).map((group) => this.#take(group));
    for (const group of taken) this.#probe(group);
  }

  launch({ effect_id, group_id, model, role }: Extract<Effect, { type: "launch_group" }>): void {
    const launched = this.#host.machines.launch(group_id, model, role);
    if (launched === "unknown" || launched === null) {
      const reason = launched === null ? "no node has the GPUs free" : `no pool of ${model}, ${role}`;
      return this.#host.dispatch({ type: "launch_failed", effect_id, reason });
    }
    this.#probe(this.#take(launched));
  }

  stop(group_id: GroupId, drain: boolean): void {
    const group = this.#groups.get(group_id);
    if (group === undefined) return this.#host.dispatch({ type: "group_stopped", group_id });
    if (group.phase === "stopping") return;
    group.phase = "stopping";
    this.#setState(group.member, "draining");
    const { clock } = this.#host;
    this.#drain(group, clock.now + (drain ? STOP_DRAIN_MS_MAX * 1_000 : 0));
  }

  onMachines(event: { readonly type: "group_lost" | "group_stopped"; readonly group_id: GroupId }): void {
    const { type, group_id } = event;
    const group = this.#groups.get(group_id);
    if (group === undefined) return;
    this.#groups.delete(group_id);
    const reason = group.condemned ?? (type === "group_lost" ? "the process ended" : "stopped");
    this.#lose(group.member, reason);
    this.#members.delete(group.member.instance.instance_id);
    const lost = type === "group_lost" || group.condemned !== null;
    this.#host.record({ type: "group_ended", group: group_id, reason: lost ? "lost" : "stopped" });
    this.#host.dispatch(lost ? { type: "group_lost", group_id, reason } : { type: "group_stopped", group_id });
  }

  sample(): void {
    for (const group of this.#groups.values()) {
      if (group.phase !== "ready") continue;
      this.#host.wire.sample(group.member.group.engine, (load) => this.#sampled(group, load));
    }
  }

  #take(group: VirtualGroup): FleetGroup {
    const { group_id, node, gpu_indices, engine, pool } = group;
    const instance: Instance = {
      instance_id: engine.instance_id,
      group_id,
      node_id: node.node_id,
      model: pool.model,
      role: pool.role,
      kv_compat: `${pool.model}/virtual`,
      gpus: engine.profile.gpus,
      capabilities: pool.role === "both" ? { ...CAPABILITIES, legs: "none" } : CAPABILITIES,
      slots: pool.slots,
      kv_tokens: engine.model.kv.total * 16,
      prefill_tokens_max: pool.prefill_tokens_max,
      context_tokens: pool.context_tokens,
      kv_lease: (pool.role === "both" ? 0 : pool.kv_lease) as Micros,
    };
    const member: FleetMember = { group, instance, state: "loading", legs: new Set() };
    const entry: FleetGroup = { member, phase: "loading", condemned: null, health_failures: 0 };
    this.#groups.set(group_id, entry);
    this.#members.set(engine.instance_id, member);
    const instances = [{ instance: engine.instance_id, gpu_indices }];
    this.#host.record({ type: "group_started", group: group_id, node: node.node_id, gpu_indices, instances });
    return entry;
  }

  #probe(group: FleetGroup): void {
    const { clock } = this.#host;
    const { instance, group: machine } = group.member;
    if (!this.#stands(group) || group.phase !== "loading") return;
    if (machine.ready_at > clock.now) return void clock.alarm(clock.now + PROBE_PERIOD_MS * 1_000, () => this.#probe(group));
    group.phase = "ready";
    this.#host.dispatch({ type: "group_launched", group_id: instance.group_id, instances: [instance] });
    this.#setState(group.member, "ready");
  }

  #drain(group: FleetGroup, until: number): void {
    const { clock, machines } = this.#host;
    if (!this.#stands(group)) return;
    if (clock.now < until && group.member.legs.size > 0)
      return void clock.alarm(clock.now + PROBE_PERIOD_MS * 1_000, () => this.#drain(group, until));
    machines.stop(group.member.instance.group_id);
  }

  #sampled(group: FleetGroup, load: EngineLoad | null): void {
    if (!this.#stands(group)) return;
    if (load !== null) {
      group.health_failures = 0;
      this.#host.dispatch({ type: "instance_sampled", instance_id: group.member.instance.instance_id, ...load });
      return;
    }
    group.health_failures += 1;
    if (group.health_failures >= HEALTH_FAILURES_MAX) this.#condemn(group, "the engine stopped answering");
  }

  #condemn(group: FleetGroup, reason: string): void {
    if (group.condemned !== null) return;
    group.condemned = reason;
    group.phase = "stopping";
    this.#lose(group.member, reason);
    this.#host.machines.stop(group.member.instance.group_id);
  }

  /** Policy first learns that the instance is lost, then that its legs failed: a retry must not go back to it. */
  #lose(member: FleetMember, reason: string): void {
    if (member.state !== "lost") {
      member.state = "lost";
      this.#host.dispatch({ type: "instance_state", instance_id: member.instance.instance_id, state: "lost" });
    }
    for (const leg of member.legs) leg.lost(reason);
  }

  #setState(member: FleetMember, state: InstanceState): void {
    if (member.state === state) return;
    member.state = state;
    this.#host.record({ type: "instance_state", instance: member.instance.instance_id, state });
    this.#host.dispatch({ type: "instance_state", instance_id: member.instance.instance_id, state });
  }

  #stands(group: FleetGroup): boolean {
    return this.#host.running && this.#groups.get(group.member.instance.group_id) === group;
  }
}
