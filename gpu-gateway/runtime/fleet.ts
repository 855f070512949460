/**
 * Which groups and instances this cell has, each with the engine adapter that talks to it. The provider says what exists; the
 * engine itself says when it can serve (a probe, D10); policy hears of a group once all its instances were probed.
 *
 *   launch or adopt → loading ── probed ── ready ── stopping ── gone
 *                        └───────── lost ──────────────────────┘
 *
 * An instance is lost when its provider says so or when HEALTH_FAILURES_MAX samples in a row fail; then its legs fail at once.
 */
import { setTimeout as pause } from "node:timers/promises";
import type { GroupId, InstanceId } from "../../schema/core/ids.ts";
import { micros } from "../../schema/core/time.ts";
import type { Effect } from "../policy/effects.ts";
import type { SchedulerEvent } from "../policy/events.ts";
import type { Instance, InstanceState, Role } from "../policy/vocabulary.ts";
import type { Engine, EngineProbe } from "../ports/engine.ts";
import type { GroupSpec, Provider, ProviderEvent, Provision, RunningGroup } from "../ports/provider.ts";
import type { MeterInput } from "./meter.ts";
import type { LegRun } from "./leg-run.ts";
import {
  GROUPS_ENDED_EARLY_MAX,
  HEALTH_FAILURES_MAX,
  PROBE_ATTEMPTS_MAX,
  PROBE_PERIOD_MS,
  SAMPLE_PERIOD_MS,
  STOP_DRAIN_MS_MAX,
} from "./limits.ts";

export type FleetInstance = {
  readonly instance_id: InstanceId;
  readonly url: string;
  readonly engine: Engine;
  readonly legs: Set<LegRun>;
  /** Null until probed. */
  instance: Instance | null;
  state: InstanceState;
  health_failures: number;
};
export type FleetGroup = {
  readonly running: RunningGroup;
  readonly instances: readonly FleetInstance[];
  phase: "loading" | "ready" | "stopping";
  /** Why it was given up, while its processes still have to end. */
  condemned: string | null;
};

export interface FleetHost {
  record(entry: MeterInput): void;
  dispatch(event: SchedulerEvent): void;
  provisioned(provision: Provision): void;
  log(line: string, fields?: Readonly<Record<string, unknown>>): void;
}

export type PoolSpec = { readonly model: string; readonly role: Role; readonly engine: string; readonly gpus_per_group: number };

export type FleetOptions = {
  readonly provider: Provider;
  readonly pools: readonly PoolSpec[];
  readonly prefill_tokens_max: number;
  readonly engine: (group: RunningGroup, url: string) => Engine;
};

export class Fleet {
  readonly #groups = new Map<GroupId, FleetGroup>();
  readonly #instances = new Map<InstanceId, FleetInstance>();
  readonly #host: FleetHost;
  readonly #options: FleetOptions;
  readonly #sampler: NodeJS.Timeout;
  readonly #ended_early = new Set<GroupId>();
  #closed = false;

  constructor(host: FleetHost, options: FleetOptions) {
    this.#host = host;
    this.#options = options;
    this.#sampler = setInterval(() => this.#sample(), SAMPLE_PERIOD_MS).unref();
  }

  instance(id: InstanceId): FleetInstance | undefined {
    return this.#instances.get(id);
  }
  groups(): readonly FleetGroup[] {
    return [...this.#groups.values()].sort((a, b) => (a.running.group_id < b.running.group_id ? -1 : 1));
  }

  /** The largest context that an instance of this model has; null while none is known. */
  contextTokens(model: string): number | null {
    let largest: number | null = null;
    for (const { instance } of this.#instances.values())
      if (instance?.model === model) largest = Math.max(largest ?? 0, instance.context_tokens);
    return largest;
  }

  /** Groups that run from before. Resolves when each has been probed, or has turned out not to serve: policy plans after that. */
  async adopt(groups: readonly RunningGroup[]): Promise<void> {
    await Promise.all(groups.map((group) => this.#take(group)));
  }

  onProviderEvent(event: ProviderEvent): void {
    if (this.#closed) return;
    switch (event.type) {
      case "provision":
        return this.#host.provisioned(event.provision);
      case "group":
        if (event.group.state === "failed") return;
        void this.#take(event.group);
        return;
      case "group_lost":
        return this.#gone(event.group_id, "lost", event.reason);
      case "group_stopped":
        return this.#gone(event.group_id, "stopped", "stopped");
      case "node_unreachable":
        return this.#host.log("node unreachable", { node: event.node_id, since_ms: event.since_ms });
    }
  }

  async launch(effect: Extract<Effect, { type: "launch_group" }>): Promise<void> {
    const { effect_id, group_id, model, role } = effect;
    const pool = this.#options.pools.find((p) => p.model === model && p.role === role);
    if (pool === undefined) return this.#host.dispatch({ type: "launch_failed", effect_id, reason: `no pool of ${model}, ${role}` });
    const spec: GroupSpec = { group_id, model, role, engine: pool.engine, gpus: pool.gpus_per_group };
    const outcome = await this.#options.provider
      .launch(spec)
      .catch((error: unknown) => ({ type: "refused" as const, reason: String(error) }));
    if (outcome.type === "launching") return void this.#take(outcome.group);
    this.#host.log("launch refused", { group: group_id, reason: outcome.reason });
    this.#host.dispatch({ type: "launch_failed", effect_id, reason: outcome.reason });
  }

  async stop(group_id: GroupId, drain: boolean): Promise<void> {
    const group = this.#groups.get(group_id);
    if (group === undefined) return this.#host.dispatch({ type: "group_stopped", group_id });
    if (group.phase === "stopping") return;
    group.phase = "stopping";
    for (const member of group.instances) this.#setState(member, "draining");
    const until_ms = performance.now() + (drain ? STOP_DRAIN_MS_MAX : 0);
    while (performance.now() < until_ms && group.instances.some((member) => member.legs.size > 0)) await pause(PROBE_PERIOD_MS);
    await this.#stopAtProvider(group_id);
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#sampler);
    for (const member of this.#instances.values()) member.engine.close();
  }

  #take(running: RunningGroup): Promise<void> {
    if (this.#groups.has(running.group_id)) return Promise.resolve();
    if (this.#ended_early.delete(running.group_id)) {
      this.#host.dispatch({ type: "group_lost", group_id: running.group_id, reason: "ended while it was launched" });
      return Promise.resolve();
    }
    const group: FleetGroup = {
      running,
      phase: "loading",
      condemned: null,
      instances: running.instances.map(({ instance_id, url }) => ({
        instance_id,
        url,
        engine: this.#options.engine(running, url),
        legs: new Set<LegRun>(),
        instance: null,
        state: "loading",
        health_failures: 0,
      })),
    };
    this.#groups.set(running.group_id, group);
    for (const member of group.instances) this.#instances.set(member.instance_id, member);
    this.#host.record({
      type: "group_started",
      group: running.group_id,
      node: running.node_id,
      gpu_indices: running.gpu_indices,
      instances: running.instances.map((i) => ({ instance: i.instance_id, gpu_indices: i.gpu_indices })),
    });
    return this.#bringUp(group);
  }

  async #bringUp(group: FleetGroup): Promise<void> {
    const probed = await Promise.all(group.instances.map((member) => this.#probe(group, member)));
    if (this.#groups.get(group.running.group_id) !== group || group.phase !== "loading" || this.#closed) return;
    const instances: Instance[] = [];
    for (const found of probed) {
      if (typeof found === "string") return this.#condemn(group, `an instance does not serve: ${found}`);
      instances.push(found);
    }
    group.phase = "ready";
    this.#host.dispatch({ type: "group_launched", group_id: group.running.group_id, instances });
    for (const member of group.instances) this.#setState(member, "ready");
  }

  /** The instance, or why it cannot serve. A provider's `ready` and an engine's are two things: the probe decides. */
  async #probe(group: FleetGroup, member: FleetInstance): Promise<Instance | string> {
    let reason = "not probed";
    let attempts = 0;
    // While the provider says "loading" (large weights take minutes) its own limit counts, not ours.
    while (attempts < PROBE_ATTEMPTS_MAX && !this.#closed && this.#groups.get(group.running.group_id) === group) {
      const healthy = await member.engine.healthy().catch(() => false);
      if (healthy) {
        attempts += 1;
        const probe = await member.engine.probe().catch((error: unknown) => String(error));
        if (typeof probe !== "string") {
          const described = this.#describe(group.running, member, probe);
          member.instance = typeof described === "string" ? null : described;
          return described;
        }
        reason = probe;
      }
      await pause(PROBE_PERIOD_MS);
    }
    return reason;
  }

  #describe(running: RunningGroup, member: FleetInstance, probe: EngineProbe): Instance | string {
    const model = probe.models.find((m) => m.id === running.model);
    if (model === undefined) return `serves ${probe.models.map((m) => m.id).join(", ")}, not ${running.model}`;
    const placed = running.instances.find((i) => i.instance_id === member.instance_id);
    return {
      instance_id: member.instance_id,
      group_id: running.group_id,
      node_id: running.node_id,
      model: running.model,
      role: running.role,
      kv_compat: probe.kv_compat,
      gpus: placed?.gpu_indices.length ?? 0,
      capabilities: probe.capabilities,
      slots: probe.slots,
      kv_tokens: probe.kv_tokens,
      prefill_tokens_max: this.#options.prefill_tokens_max,
      context_tokens: model.context_tokens,
      kv_lease: micros(probe.kv_lease_ms * 1_000),
    };
  }

  #setState(member: FleetInstance, state: InstanceState): void {
    if (member.state === state) return;
    member.state = state;
    this.#host.record({ type: "instance_state", instance: member.instance_id, state });
    this.#host.dispatch({ type: "instance_state", instance_id: member.instance_id, state });
  }

  /** Policy first learns that the instances are lost, then that their legs failed: a retry must not go back to them. */
  #lose(group: FleetGroup, reason: string): void {
    for (const member of group.instances) {
      if (member.state === "lost") continue;
      member.state = "lost";
      if (member.instance !== null) this.#host.dispatch({ type: "instance_state", instance_id: member.instance_id, state: "lost" });
    }
    for (const member of group.instances) for (const leg of member.legs) leg.lost(reason);
  }

  /** It does not serve. Its GPUs are taken until its processes have ended, so policy hears of the loss only then. */
  async #condemn(group: FleetGroup, reason: string): Promise<void> {
    if (group.condemned !== null) return;
    group.condemned = reason;
    group.phase = "stopping";
    this.#host.log("group given up", { group: group.running.group_id, reason });
    this.#lose(group, reason);
    await this.#stopAtProvider(group.running.group_id);
  }

  /** The provider's `group_stopped` says that it is done. */
  async #stopAtProvider(group_id: GroupId): Promise<void> {
    try {
      await this.#options.provider.stop(group_id);
    } catch (error) {
      // Fenced: the lease keeper meets the same at its next renewal and ends this gateway.
      this.#host.log("stop failed", { group: group_id, error: String(error) });
    }
  }

  #gone(group_id: GroupId, how: "stopped" | "lost", reason: string): void {
    const group = this.#groups.get(group_id);
    if (group === undefined) return this.#rememberEnded(group_id);
    this.#groups.delete(group_id);
    this.#lose(group, reason);
    for (const member of group.instances) {
      this.#instances.delete(member.instance_id);
      member.engine.close();
    }
    const lost = how === "lost" || group.condemned !== null;
    this.#host.record({ type: "group_ended", group: group_id, reason: lost ? "lost" : "stopped" });
    this.#host.log(lost ? "group lost" : "group stopped", { group: group_id, reason: group.condemned ?? reason });
    this.#host.dispatch(lost ? { type: "group_lost", group_id, reason: group.condemned ?? reason } : { type: "group_stopped", group_id });
  }

  /** A group may end before the answer to its launch has come. */
  #rememberEnded(group_id: GroupId): void {
    this.#ended_early.add(group_id);
    const [oldest] = this.#ended_early;
    if (this.#ended_early.size > GROUPS_ENDED_EARLY_MAX && oldest !== undefined) this.#ended_early.delete(oldest);
  }

  #sample(): void {
    for (const group of this.#groups.values()) {
      if (group.phase !== "ready") continue;
      for (const member of group.instances) void this.#sampleOne(group, member);
    }
  }

  async #sampleOne(group: FleetGroup, member: FleetInstance): Promise<void> {
    const load = await member.engine.load().catch(() => null);
    if (this.#instances.get(member.instance_id) !== member || this.#closed) return;
    if (load !== null) {
      member.health_failures = 0;
      const kv_usage_ppm = Math.round(load.kv_usage * 1_000_000);
      this.#host.dispatch({
        type: "instance_sampled",
        instance_id: member.instance_id,
        running: load.running,
        waiting: load.waiting,
        kv_usage_ppm,
      });
      return;
    }
    member.health_failures += 1;
    if (member.health_failures >= HEALTH_FAILURES_MAX) await this.#condemn(group, "the engine stopped answering");
  }
}
