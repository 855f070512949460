/**
 * One node: who holds it, what runs on it, since when its GPUs are provisioned.
 *
 *   waiting ──claim──▶ held ──claim, launch, stop──▶ held
 *      │                 │
 *      │ nobody claims   │ lease runs out, release, SIGTERM
 *      ▼                 ▼
 *   leaving: no further command; engines end; then the provision is closed; the process exits
 *
 * `phase` changes only in `#enter`. A restarted agent whose provision is open starts as held, by who held it, for one more
 * lease from now: the machine was there all along, and its holder may still be alive.
 */
import type { GroupId, NodeId } from "../../schema/core/ids.ts";
import { asId, deriveId } from "../../schema/core/ids.ts";
import type { Provision, RunningGroup } from "../ports/provider.ts";
import type { EngineEntry } from "./catalogue.ts";
import { fill } from "./catalogue.ts";
import type { NodeClock } from "./clock.ts";
import { EngineProcess } from "./engine.ts";
import type { EnginesFile } from "./engines-file.ts";
import type { Feed } from "./feed.ts";
import type { Fence } from "./fence.ts";
import { LogFile } from "./log-file.ts";
import { freePort } from "./ports.ts";
import type { ProvisionRecord } from "./provisions.ts";
import type { ClaimCommand, Claimed, Commander, LaunchCommand, Outcome, Snapshot, StopCommand } from "./wire.ts";
import { ok, refused } from "./wire.ts";

type Phase = "waiting" | "held" | "leaving" | "left";

type Slot = {
  readonly spec: LaunchCommand;
  readonly gpu_indices: readonly number[];
  readonly port: number | null;
  readonly engine: EngineProcess | null;
  readonly entry: EngineEntry;
  readonly state: RunningGroup["state"];
  /** Why it will have ended: `stop` was asked for, or null when an end would be a loss. */
  readonly ending: "stop" | "failed" | null;
};

export type NodeParts = {
  readonly node_id: NodeId;
  readonly gpus: number;
  readonly lease_ms: number;
  readonly log_folder: string;
  readonly catalogue: () => ReadonlyMap<string, EngineEntry>;
  readonly clock: NodeClock;
  readonly provisions: ProvisionRecord;
  readonly fence: Fence;
  readonly engines: EnginesFile;
  readonly feed: Feed;
  readonly new_provision_id: () => string;
};

export class AgentNode {
  readonly #parts: NodeParts;
  readonly #slots = new Map<GroupId, Slot>();
  /** GPUs whose engine is not gone yet; outlives the slot of a lost group. */
  readonly #busy = new Set<number>();
  readonly #ending = new Set<Promise<void>>();
  readonly #left = Promise.withResolvers<string>();
  #phase: Phase = "waiting";
  #lease_ends = 0;
  #lease_timer: NodeJS.Timeout | null = null;

  constructor(parts: NodeParts) {
    this.#parts = parts;
    const { fence, provisions, clock } = parts;
    if (provisions.open !== null && provisions.open.gpus !== parts.gpus) provisions.end(clock.confirm(), "the node has other GPUs now");
    if (provisions.open === null) fence.clear();
    this.#enter(fence.holder === null ? "waiting" : "held");
    this.#extend(fence.holder?.lease_ms ?? parts.lease_ms);
  }

  /** Resolves with the reason once the engines are gone and the provision is closed; rejects when its end cannot be written. */
  get left(): Promise<string> {
    return this.#left.promise;
  }

  snapshot(): Snapshot {
    const { node_id, gpus, feed, fence, provisions } = this.#parts;
    const holder = fence.holder === null ? null : { cell: fence.holder.cell, epoch: fence.holder.epoch };
    const groups = [...this.#slots.values()].filter((slot) => slot.engine !== null).map((slot) => this.#describe(slot));
    return { node_id, gpus, stream: feed.stream, seq: feed.seq, holder, provisions: [...provisions.recent()], groups };
  }

  claim(command: ClaimCommand): Outcome<Claimed> {
    const { fence, provisions, clock, node_id, gpus } = this.#parts;
    if (this.#isLeaving()) return LEAVING;
    const failure = fence.take(command, command.lease_ms);
    if (failure !== null) return refused(failure);
    this.#extend(command.lease_ms);
    if (provisions.open === null) provisions.begin(this.#parts.new_provision_id(), node_id, gpus, clock.confirm());
    this.#enter("held");
    return ok({ ...this.snapshot(), now: clock.confirm() });
  }

  async launch(spec: LaunchCommand): Promise<Outcome<{ readonly group: RunningGroup }>> {
    const failure = this.#gate(spec);
    if (failure !== null) return failure;
    const same = this.#slots.get(spec.group_id);
    if (same !== undefined) {
      if (isSameSpec(same.spec, spec) && same.ending === null && same.engine !== null) return ok({ group: this.#describe(same) });
      return refused({ code: "group_exists", detail: "a group with this id exists and is not the same or is ending", param: "group_id" });
    }
    const entry = this.#parts.catalogue().get(spec.engine);
    if (entry === undefined) return refused({ code: "unknown_engine", detail: "see the node's engine catalogue", param: "engine" });
    const gpu_indices = this.#lowestFree(spec.gpus);
    if (gpu_indices === null)
      return refused({ code: "no_free_gpu", detail: `${this.#free().length} of ${this.#parts.gpus} GPUs are free` });
    for (const index of gpu_indices) this.#busy.add(index);
    this.#slots.set(spec.group_id, { spec, gpu_indices, port: null, engine: null, entry, state: "loading", ending: null });
    return this.#start(spec.group_id);
  }

  stop(command: StopCommand): Outcome<{ readonly stopping: boolean }> {
    const failure = this.#gate(command);
    if (failure !== null) return failure;
    return ok({ stopping: this.#stopGroup(command.group_id) });
  }

  async release(by: Commander): Promise<Outcome<{ readonly provisions: readonly Provision[] }>> {
    const failure = this.#gate(by);
    if (failure !== null) return failure;
    const { provision_id } = this.#parts.provisions.open ?? {};
    await this.leave("released");
    return ok({ provisions: this.#parts.provisions.recent().filter((provision) => provision.provision_id === provision_id) });
  }

  /** Stops every engine, then closes the provision: its end is the instant at which they were gone. */
  async leave(reason: string): Promise<void> {
    if (this.#phase === "leaving" || this.#phase === "left") {
      await this.left;
      return;
    }
    this.#enter("leaving");
    if (this.#lease_timer !== null) clearTimeout(this.#lease_timer);
    for (const group_id of this.#slots.keys()) this.#stopGroup(group_id);
    while (this.#ending.size > 0) await Promise.all(this.#ending);
    const { provisions, clock, fence } = this.#parts;
    try {
      if (provisions.open !== null) provisions.end(clock.confirm(), reason);
      fence.clear();
    } catch (error) {
      this.#left.reject(error);
      throw error;
    }
    this.#enter("left");
    this.#left.resolve(reason);
  }

  #enter(phase: Phase): void {
    this.#phase = phase;
  }

  /** Also true in the moment between the lease's end and its timer: a late renewal does not undo the end. */
  #isLeaving(): boolean {
    if (this.#phase === "leaving" || this.#phase === "left") return true;
    if (performance.now() < this.#lease_ends) return false;
    this.#expire();
    return true;
  }

  #gate(by: Commander): Extract<Outcome<never>, { type: "refused" }> | null {
    if (this.#isLeaving()) return LEAVING;
    const failure = this.#parts.fence.pass(by);
    return failure === null ? null : refused(failure);
  }

  #extend(lease_ms: number): void {
    if (this.#lease_timer !== null) clearTimeout(this.#lease_timer);
    this.#lease_ends = performance.now() + lease_ms;
    this.#lease_timer = setTimeout(() => this.#expire(), lease_ms);
  }

  #expire(): void {
    const reason = this.#phase === "waiting" ? "nobody claimed the node" : "the lease ran out";
    // A failure is told through `left`.
    this.leave(reason).catch(() => {});
  }

  async #start(group_id: GroupId): Promise<Outcome<{ readonly group: RunningGroup }>> {
    const { promise: ended, resolve: end } = Promise.withResolvers<void>();
    this.#track(ended);
    const { spec, gpu_indices, entry } = this.#slot(group_id);
    try {
      const ports = [...this.#slots.values()].flatMap((slot) => (slot.port === null ? [] : [slot.port]));
      const port = await freePort(new Set(ports));
      // Stopped before it was started.
      if (this.#slot(group_id).ending !== null) return this.#neverStarted(group_id, end);
      this.#update(group_id, { port });
      this.#writeEngines();
      const filled = fill(entry, {
        port: String(port),
        model: spec.model,
        role: spec.role,
        gpu_indices: gpu_indices.join(","),
        gpus: String(spec.gpus),
        group_id,
      });
      const env = { CUDA_VISIBLE_DEVICES: gpu_indices.join(","), ...this.#parts.engines.environment };
      const engine = new EngineProcess(filled, env, new LogFile(this.#parts.log_folder, group_id));
      this.#update(group_id, { engine });
      void this.#watch(group_id, engine, `http://127.0.0.1:${port}${entry.ready}`).finally(end);
    } catch (error) {
      this.#forget(group_id, end);
      throw error;
    }
    try {
      this.#writeEngines();
    } catch (error) {
      // An engine that a restarted agent would not know of must not run.
      this.#stopGroup(group_id);
      throw error;
    }
    return ok({ group: this.#describe(this.#slot(group_id)) });
  }

  #neverStarted(group_id: GroupId, end: () => void): Outcome<never> {
    this.#forget(group_id, end);
    this.#parts.feed.push({ type: "group_stopped", group_id });
    return refused({ code: "node_leaving", detail: "the group was stopped before it was started" });
  }

  #forget(group_id: GroupId, end: () => void): void {
    for (const index of this.#slot(group_id).gpu_indices) this.#busy.delete(index);
    this.#slots.delete(group_id);
    end();
  }

  /** From start to end of one engine. Says exactly one of stopped and lost. */
  async #watch(group_id: GroupId, engine: EngineProcess, ready_url: string): Promise<void> {
    const { feed } = this.#parts;
    const { entry, gpu_indices } = this.#slot(group_id);
    void this.#untilReady(group_id, engine, ready_url, entry);
    const how = await engine.exited;
    const { ending, state } = this.#slot(group_id);
    if (ending === null) {
      this.#slots.delete(group_id);
      feed.push({ type: "group_lost", group_id, reason: `the engine ${how}${state === "loading" ? " before it was ready" : ""}` });
    }
    await engine.gone;
    for (const index of gpu_indices) this.#busy.delete(index);
    if (ending !== null) {
      this.#slots.delete(group_id);
      if (ending === "stop") feed.push({ type: "group_stopped", group_id });
      else feed.push({ type: "group_lost", group_id, reason: `the engine was not ready within ${entry.ready_ms} ms` });
    }
    try {
      this.#writeEngines();
    } catch {
      // What stays in the file is an engine that ended: a restarted agent finds no such process, and says that it is lost.
    }
  }

  async #untilReady(group_id: GroupId, engine: EngineProcess, url: string, entry: EngineEntry): Promise<void> {
    const ready = await engine.ready(url, entry.ready_ms);
    const slot = this.#slots.get(group_id);
    if (slot?.engine !== engine || slot.ending !== null) return;
    this.#update(group_id, ready ? { state: "ready" } : { state: "failed", ending: "failed" });
    this.#parts.feed.push({ type: "group", group: this.#describe(this.#slot(group_id)) });
    if (!ready) await engine.stop(entry.stop_ms);
  }

  /** False when there is nothing to stop. */
  #stopGroup(group_id: GroupId): boolean {
    const slot = this.#slots.get(group_id);
    if (slot === undefined) return false;
    if (slot.ending === null) {
      this.#update(group_id, { ending: "stop" });
      if (slot.engine !== null) this.#track(slot.engine.stop(slot.entry.stop_ms));
    }
    return true;
  }

  #track(work: Promise<void>): void {
    this.#ending.add(work);
    void work.finally(() => this.#ending.delete(work));
  }

  #slot(group_id: GroupId): Slot {
    const slot = this.#slots.get(group_id);
    if (slot === undefined) throw new Error(`no group ${group_id}`);
    return slot;
  }

  #update(group_id: GroupId, change: Partial<Slot>): void {
    this.#slots.set(group_id, { ...this.#slot(group_id), ...change });
  }

  #free(): number[] {
    return Array.from({ length: this.#parts.gpus }, (_, index) => index).filter((index) => !this.#busy.has(index));
  }

  #lowestFree(count: number): readonly number[] | null {
    const free = this.#free();
    return free.length < count ? null : free.slice(0, count);
  }

  #writeEngines(): void {
    const started = [...this.#slots].filter(([, slot]) => slot.port !== null);
    this.#parts.engines.write(started.map(([group_id, slot]) => ({ group_id, process: slot.engine?.identity ?? null })));
  }

  #describe({ spec, gpu_indices, port, state }: Slot): RunningGroup {
    const instance_id = deriveId("instance", spec.group_id, "0");
    const url = `http://127.0.0.1:${port ?? 0}`;
    return {
      group_id: asId<"group">(spec.group_id),
      node_id: this.#parts.node_id,
      model: spec.model,
      role: spec.role,
      engine: spec.engine,
      gpu_indices: [...gpu_indices],
      instances: [{ instance_id, url, gpu_indices: [...gpu_indices] }],
      state,
      epoch: spec.epoch,
      ends_at: null,
    };
  }
}

const LEAVING = refused({ code: "node_leaving", detail: "the agent stops its engines and exits; start another" });

const isSameSpec = (a: LaunchCommand, b: LaunchCommand): boolean =>
  a.model === b.model && a.role === b.role && a.engine === b.engine && a.gpus === b.gpus;
