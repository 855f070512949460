/**
 * Between gateway and engines: a delay each way, the same for all, so that nothing overtakes. A partitioned node is not reached: who
 * tries gives up after the adapter's connect timeout; connections that stood are cut when the partition begins.
 */
import type { NodeId } from "../../schema/core/ids.ts";
import type { VirtualClock } from "./clock.ts";
import type { Job } from "./job.ts";
import type { VirtualEngine } from "./virtual-engine.ts";

/** engines/vllm/engine.ts: CONNECT_TIMEOUT_MS. */
const CONNECT_TIMEOUT_US = 2_000_000;

export type EngineLoad = { readonly running: number; readonly waiting: number; readonly kv_usage_ppm: number };

export class Wire {
  readonly #clock: VirtualClock;
  readonly #delay: number;
  readonly #partitioned = new Map<NodeId, number>();

  constructor(clock: VirtualClock, delay: number) {
    this.#clock = clock;
    this.#delay = delay;
  }

  partition(node: NodeId, until: number): void {
    this.#partitioned.set(node, Math.max(until, this.#partitioned.get(node) ?? 0));
  }

  /** Now, unless it is partitioned. */
  reachedAt(node: NodeId): number {
    return Math.max(this.#clock.now, this.#partitioned.get(node) ?? 0);
  }

  connect(engine: VirtualEngine, job: Job, unreachable: () => void): void {
    const fail = (after: number) => void this.#clock.alarm(this.#clock.now + after, () => job.open && unreachable());
    this.#after(this.#delay, () => {
      if (!job.open) return;
      if (!this.#reaches(engine)) fail(CONNECT_TIMEOUT_US);
      else if (!engine.alive) fail(this.#delay);
      else engine.submit(job);
    });
  }

  hangUp(engine: VirtualEngine, job: Job): void {
    if (!job.open) return;
    job.open = false;
    this.#after(this.#delay, () => engine.alive && engine.hangUp(job));
  }

  /** Null: it does not answer. */
  sample(engine: VirtualEngine, answer: (load: EngineLoad | null) => void): void {
    this.#after(this.#delay, () => {
      if (!this.#reaches(engine)) return this.#after(CONNECT_TIMEOUT_US, () => answer(null));
      const { running, waiting, kv } = engine.model;
      const load = engine.alive ? { running, waiting, kv_usage_ppm: Math.round((kv.used / kv.total) * 1_000_000) } : null;
      this.#after(this.#delay, () => answer(load));
    });
  }

  #reaches(engine: VirtualEngine): boolean {
    return this.reachedAt(engine.node_id) === this.#clock.now;
  }

  #after(delay: number, act: () => void): void {
    this.#clock.schedule(this.#clock.now + delay, { run: act });
  }
}
