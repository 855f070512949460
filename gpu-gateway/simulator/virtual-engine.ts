/**
 * Drives one engine model in virtual time: the counterpart of engines/simulated/instance.ts, which drives the same model in real time
 * behind sockets. A step is one event: when it is done, its tokens are sent and the next one begins.
 *
 * Of a prefill leg the blocks are held when it ends, for the lease; a decode leg that has the hand-over renews it until it has pulled.
 * As on vLLM, the pull names blocks and nobody checks whose they are.
 */
import { EngineModel, type Sequence, type Step } from "../engine-model/engine.ts";
import type { ModelProfile } from "../engine-model/profile.ts";
import type { Endpoint } from "../engine-model/transfer.ts";
import { failure } from "../../schema/core/errors.ts";
import type { InstanceId, NodeId } from "../../schema/core/ids.ts";
import type { LegFailure } from "../policy/vocabulary.ts";
import type { Task, VirtualClock } from "./clock.ts";
import type { KvObserver } from "./faults/hooks.ts";
import type { Job, VirtualHandover } from "./job.ts";
import type { Transfers } from "./transfers.ts";
import type { PoolSpec } from "./types.ts";

/** A decode instance renews a lease to this share of it (engines/simulated/instance.ts). */
const RENEWAL_SHARE = 2 / 3;

export type EngineWorld = {
  readonly clock: VirtualClock;
  readonly transfers: Transfers;
  readonly link_delay: number;
  readonly notice_delay: number;
  readonly kv: KvObserver | null;
};

export type EnginePlace = {
  readonly instance_id: InstanceId;
  readonly node_id: NodeId;
  readonly pool: PoolSpec;
  readonly profile: ModelProfile;
  readonly kv_tokens: number;
  readonly gpus: Endpoint;
};

export class VirtualEngine {
  readonly instance_id: InstanceId;
  readonly node_id: NodeId;
  readonly pool: PoolSpec;
  readonly profile: ModelProfile;
  readonly gpus: Endpoint;
  readonly model: EngineModel<Job>;
  alive = true;
  steps = 0;
  busy_us = 0;
  prefill_tokens = 0;
  decode_tokens = 0;
  readonly #world: EngineWorld;
  /** Connections that stand. */
  readonly #jobs = new Set<Job>();
  readonly #spare: StepDone[] = [];
  readonly #begin: Task = { run: () => this.#beginStep() };
  #begin_asked = false;
  /** Nothing to compute that is not in flight. */
  #idle = true;
  #free_at = 0;
  #hangs_until = 0;

  constructor(world: EngineWorld, { instance_id, node_id, pool, profile, kv_tokens, gpus }: EnginePlace) {
    this.#world = world;
    this.instance_id = instance_id;
    this.node_id = node_id;
    this.pool = pool;
    this.profile = profile;
    this.gpus = gpus;
    this.model = new EngineModel<Job>(profile, {
      kv_tokens,
      sequences: pool.slots,
      step_tokens: pool.step_tokens,
      batching: pool.batching ?? "chunked",
    });
    if (world.kv !== null) this.model.on_cache_hit = (sequence, blocks) => this.#tellHit(sequence, blocks);
  }

  /** A request has arrived. */
  submit(job: Job): void {
    if (!job.open) return;
    const { prompt_tokens, output_tokens } = job;
    if (prompt_tokens + output_tokens > Math.min(this.pool.context_tokens, this.model.kv.total * 16))
      return this.#fail(job, { cause: "rejected", failure: failure("context_too_long", `${prompt_tokens} + ${output_tokens} tokens`) });
    this.#jobs.add(job);
    if (job.handover !== null) job.handover.job.puller = job;
    this.model.add(job);
    if (job.role !== "prefill") this.#send(() => job.open && job.answer.accepted());
    this.kick();
  }

  /** The gateway has closed the connection. All that the request has here is freed, and prefill is told. */
  hangUp(job: Job): void {
    job.open = false;
    if (!this.#jobs.delete(job)) return;
    this.#drop(job);
    this.#letGo(job);
    this.kick();
  }

  /** Nothing that was sent over the network to or from here arrives. */
  cut(): void {
    for (const job of this.#jobs) this.#cutOff(job, "the connection was lost");
  }

  /** The process dies. What it sent before still arrives. */
  kill(): void {
    this.alive = false;
    for (const job of this.#jobs) this.#cutOff(job, "the connection was closed");
    this.#world.transfers.engineDied(this);
    this.model.dropAll();
  }

  slow(factor: number, until: number): void {
    this.model.slowdown = factor;
    this.#world.clock.alarm(until, () => (this.model.slowdown = 1));
  }

  hang(until: number): void {
    this.#hangs_until = Math.max(this.#hangs_until, until);
  }

  /** Something may be computed that could not be before. */
  kick(): void {
    if (!this.#idle || this.#begin_asked || !this.alive) return;
    this.#ask(this.#free_at);
  }

  /** A decode instance has what it wanted of this leg's blocks, or wants it no more. */
  pulled(job: Job): void {
    job.puller = null;
    this.#free(job);
  }

  #ask(at: number): void {
    this.#begin_asked = true;
    this.#world.clock.schedule(at, this.#begin);
  }

  #beginStep(): void {
    this.#begin_asked = false;
    if (!this.alive) return;
    const { now } = this.#world.clock;
    if (this.#hangs_until > now) return this.#ask(this.#hangs_until);
    const step = this.model.step(now);
    this.#idle = step.done_at === null;
    if (step.done_at !== null) this.#stepBegun(step, now, step.done_at);
    for (const sequence of step.pulls) this.#pull(sequence);
  }

  #stepBegun(step: Step<Job>, now: number, done_at: number): void {
    this.steps++;
    this.busy_us += step.next_at - now;
    this.prefill_tokens += step.prefill_tokens;
    this.decode_tokens += step.decode_tokens;
    for (const sequence of step.first) sequence.request.cached_tokens = sequence.cached;
    const done = this.#spare.pop() ?? new StepDone(this);
    for (const sequence of step.emitters) done.jobs.push(sequence.request);
    for (const sequence of step.finished) done.finished.push(sequence);
    this.#world.clock.schedule(done_at, done);
    this.#free_at = step.next_at;
    if (step.next_at < done_at) this.#ask(step.next_at);
  }

  /** StepDone. */
  stepDone(step: StepDone): void {
    const { clock, link_delay, notice_delay } = this.#world;
    if (!this.alive) return;
    for (const sequence of step.finished) this.#finished(sequence);
    step.finished.length = 0;
    if (step.jobs.length > 0) {
      step.sent = true;
      clock.schedule(clock.now + notice_delay + link_delay, step);
    } else this.#spare.push(step);
    if (this.#begin_asked) return;
    if (this.#free_at <= clock.now) this.#beginStep();
    else this.#ask(this.#free_at);
  }

  /** StepDone, at the gateway. */
  stepHeard(step: StepDone): void {
    for (const job of step.jobs) {
      if (!job.open || job.role === "prefill") continue;
      job.delivered++;
      job.answer.token(job.delivered === job.output_tokens);
    }
    step.jobs.length = 0;
    step.sent = false;
    this.#spare.push(step);
  }

  #finished(sequence: Sequence<Job>): void {
    const job = sequence.request;
    if (!this.#jobs.delete(job)) return;
    if (job.role !== "prefill") return;
    const { clock, kv } = this.#world;
    const blocks = this.model.blocksOf(job.id);
    const handover: VirtualHandover = {
      engine: this,
      job,
      blocks,
      writers: kv === null ? null : blocks.map((block) => this.model.kv.writerOf(block)),
      usage: { prompt_tokens: job.prompt_tokens, cached_tokens: sequence.cached, completion_tokens: 0 },
      prefilled_at: clock.now,
    };
    job.held = true;
    this.#leaseFrom(job, this.pool.kv_lease);
    this.#send(() => job.open && job.answer.prefilled(handover.usage, handover), this.#world.notice_delay);
  }

  /** Held for the lease; as long as a decode leg renews it, longer. */
  #leaseFrom(job: Job, lease: number): void {
    const { clock } = this.#world;
    this.model.lease(job.id, clock.now + lease);
    clock.alarm(clock.now + lease, () => {
      // Each by itself: of two that end at one instant, one may have been renewed.
      if (job.puller === null) this.#free(job);
      else if (this.alive && job.held) this.#leaseFrom(job, this.pool.kv_lease * RENEWAL_SHARE);
    });
  }

  #pull(sequence: Sequence<Job>): void {
    const job = sequence.request;
    const { transfers } = this.#world;
    const bytes = sequence.pull_tokens * this.profile.kv_bytes_per_token;
    const { handover, peer_cache } = job;
    if (handover !== null) {
      const [arrived, lost] = [() => this.#received(job, handover), () => this.#kvLost(job)];
      return transfers.begin({ job, from: handover.engine, to: this, bytes, arrived, lost });
    }
    const compute = () => {
      this.model.notReceived(job.id);
      this.kick();
    };
    // What the hint promised may have been evicted meanwhile.
    if (peer_cache === null || !peer_cache.engine.alive || peer_cache.engine.model.cachedTokens(sequence.keys) < peer_cache.tokens)
      return compute();
    const arrived = () => {
      this.model.received(job.id);
      this.kick();
    };
    transfers.begin({ job, from: peer_cache.engine, to: this, bytes, arrived, lost: compute });
  }

  #received(job: Job, handover: VirtualHandover): void {
    const { clock } = this.#world;
    // A second arrival carries what the first one read, and is for nothing.
    if (job.received_at !== null) return;
    job.received_at = clock.now;
    this.#tellPull(job, handover);
    handover.engine.pulled(handover.job);
    this.model.received(job.id);
    this.kick();
  }

  /** The KV did not come: the engine gives the request up. */
  #kvLost(job: Job): void {
    if (!this.#jobs.delete(job)) return;
    this.model.abort(job.id);
    this.#letGo(job);
    this.#fail(job, { cause: "kv_lost", failure: failure("engine_failed", "the KV cache could not be fetched") });
    this.kick();
  }

  #free(job: Job): void {
    if (!job.held) return;
    job.held = false;
    if (this.alive && this.model.releaseHeld(job.id)) this.kick();
  }

  /** In its last step a prefill holds its KV already, and nobody will ever lease it. */
  #drop(job: Job): void {
    if (!this.model.abort(job.id)) this.model.releaseHeld(job.id);
  }

  #letGo(job: Job): void {
    this.#world.transfers.cancel(job);
    if (job.handover !== null && job.received_at === null) job.handover.engine.pulled(job.handover.job);
  }

  #cutOff(job: Job, detail: string): void {
    this.#jobs.delete(job);
    if (this.alive) {
      this.#drop(job);
      this.#letGo(job);
    } else this.#world.transfers.cancel(job);
    this.#fail(job, { cause: "stream_cut", failure: failure("engine_failed", detail) });
    this.kick();
  }

  #fail(job: Job, error: LegFailure): void {
    this.#send(() => {
      if (!job.open) return;
      job.open = false;
      job.answer.failed(error);
    });
  }

  #send(act: () => void, after = 0): void {
    const { clock, link_delay } = this.#world;
    clock.schedule(clock.now + after + link_delay, { run: act });
  }

  #tellHit(sequence: Sequence<Job>, blocks: number): void {
    const { leg_id, tenant } = sequence.request;
    const computed_by = sequence.blocks.slice(0, blocks).map((block) => this.model.kv.writerOf(block)?.tenant ?? tenant);
    this.#world.kv?.kvRead?.({ type: "prefix_hit", instance_id: this.instance_id, leg_id, tenant, computed_by });
  }

  /** What was read: the first block that holds anything else than at the hand-over, if there is one. */
  #tellPull({ leg_id, tenant }: Job, { engine, job, blocks, writers }: VirtualHandover): void {
    if (writers === null) return;
    let found: { readonly leg_id: Job["leg_id"]; readonly tenant: Job["tenant"] } | null = { leg_id: job.leg_id, tenant: job.tenant };
    for (const [index, block] of blocks.entries()) {
      const writer = engine.model.kv.writerOf(block);
      if (writer === writers[index] && !engine.model.kv.isFree(block)) continue;
      found = writer === undefined || engine.model.kv.isFree(block) ? null : { leg_id: writer.leg_id, tenant: writer.tenant };
      break;
    }
    this.#world.kv?.kvRead?.({ type: "pulled", leg_id, tenant, from: job.leg_id, found });
  }
}

/** A step's end at its engine, then its tokens' arrival at the gateway. Reused. */
class StepDone implements Task {
  readonly jobs: Job[] = [];
  readonly finished: Sequence<Job>[] = [];
  sent = false;
  readonly #engine: VirtualEngine;

  constructor(engine: VirtualEngine) {
    this.#engine = engine;
  }

  run(): void {
    if (this.sent) this.#engine.stepHeard(this);
    else this.#engine.stepDone(this);
  }
}
