/**
 * One leg as the gateway has it. Mirrors runtime/leg-run.ts state by state (it cannot be that file: there a leg is bound to timers and
 * sockets), and of engines/vllm/leg.ts what the gateway's side of a connection does by itself: give up on acceptance, refuse a late one.
 *
 *   started ── accepted ──┬── finished ───────────────────────── over
 *      │          │       ├── finished with KV to hand over ── holding ── over   (prefill only)
 *      └──────────┴───────┴── failed | cancelled | lost ──────── over
 */
import { failure, type Failure } from "../../schema/core/errors.ts";
import type { Micros } from "../../schema/core/time.ts";
import type { Effect } from "../policy/effects.ts";
import type { SchedulerEvent } from "../policy/events.ts";
import type { LegFailure, LegUsage } from "../policy/vocabulary.ts";
import type { CallEntry } from "./call-entry.ts";
import type { Alarm, VirtualClock } from "./clock.ts";
import { Job, type Answer, type JobInit, type VirtualHandover } from "./job.ts";
import type { Recordable } from "./records.ts";
import type { VirtualEngine } from "./virtual-engine.ts";
import type { Wire } from "./wire.ts";

export type StartLeg = Extract<Effect, { type: "start_leg" }>;

/** engines/vllm/engine.ts: taken off the lease, the decode leg must be accepted so long before its end. */
const HANDOVER_MARGIN_US = 2_000_000;

export interface LegHost {
  readonly clock: VirtualClock;
  readonly wire: Wire;
  record(input: Recordable): void;
  dispatch(event: SchedulerEvent): void;
  /** When what is being handled has been: where live code queues a microtask. */
  soon(act: () => void): void;
  delivered(leg: Leg): void;
  over(leg: Leg): void;
}

export class Leg implements Answer {
  readonly effect: StartLeg;
  readonly entry: CallEntry;
  readonly engine: VirtualEngine;
  readonly #host: LegHost;
  readonly #source: Leg | null;
  readonly #kv_lease: Micros;
  #at: "started" | "accepted" | "holding" | "over" = "started";
  #job: Job | null = null;
  #handover: VirtualHandover | null = null;
  #lease: Alarm | null = null;
  #patience: Alarm | null = null;
  #begun = false;
  #cancelling = false;
  tokens = 0;
  last_token_at = 0;
  /** Of a prefill leg: past it no decode leg may begin. */
  handover_expires = Number.POSITIVE_INFINITY;
  /** Has tokens that policy has not heard of. */
  unreported = false;

  constructor(host: LegHost, effect: StartLeg, entry: CallEntry, source: Leg | null, engine: VirtualEngine, kv_lease: Micros) {
    this.#host = host;
    this.effect = effect;
    this.entry = entry;
    this.#source = source;
    this.engine = engine;
    this.#kv_lease = kv_lease;
  }

  get handover(): VirtualHandover | null {
    return this.#at === "holding" ? this.#handover : null;
  }
  get active(): boolean {
    return this.#at === "started" || this.#at === "accepted";
  }
  get ended(): boolean {
    return this.#at === "over";
  }
  get job(): Job | null {
    return this.#job;
  }

  start(handover: VirtualHandover | null, peer_cache: JobInit["peer_cache"]): void {
    const { leg_id, call_id, instance_id, role, weight, accept_by } = this.effect;
    const { clock, wire } = this.#host;
    const { call, output_tokens } = this.entry.sim;
    this.#host.record({ type: "leg_joined", leg: leg_id, call: call_id, instance: instance_id, role, weight });
    const job = new Job({
      leg_id,
      sent_at: clock.now,
      role,
      tenant: call.tenant,
      prompt_tokens: call.prompt_tokens,
      prefix: call.prefix,
      output_tokens: Math.max(1, Math.min(output_tokens, call.max_tokens)),
      handover,
      peer_cache,
      answer: this,
    });
    this.#job = job;
    const wait = Math.max(1_000, Math.ceil((accept_by - clock.now) / 1_000) * 1_000);
    const left = (this.#source?.handover_expires ?? Number.POSITIVE_INFINITY) - clock.now;
    if (left <= 0) return this.#host.soon(() => this.failed(lost("kv_lost", "the KV lease is over")));
    this.#patience = clock.alarm(clock.now + Math.min(wait, left), () =>
      this.#giveUp(left < wait ? lost("kv_lost", "not accepted before the KV lease ended") : lost("timeout", "no answer in time")),
    );
    wire.connect(this.engine, job, () => this.failed(lost("connect", "the engine could not be reached")));
  }

  cancel(): void {
    if (!this.active || this.#cancelling) return;
    this.#cancelling = true;
    this.#hangUp();
    this.#host.soon(() => this.#cancelled());
  }

  // ── what the engine says

  accepted(): void {
    this.#patience?.cancel();
    if (this.#at !== "started") return;
    if (this.#host.clock.now >= (this.#source?.handover_expires ?? Number.POSITIVE_INFINITY))
      return this.#giveUp(lost("kv_lost", "not accepted before the KV lease ended"));
    this.#at = "accepted";
    this.#source?.takenOver();
    this.#host.dispatch({ type: "leg_accepted", leg_id: this.effect.leg_id });
  }

  token(last: boolean): void {
    if (!this.active || this.#cancelling) return;
    if (!this.#begun) {
      this.#begun = true;
      this.#source?.release();
      this.#host.dispatch({ type: "leg_first_token", leg_id: this.effect.leg_id });
      // As live: what the event brought about may have ended it.
      if (!this.active || this.#cancelling) return;
    }
    this.tokens++;
    this.#host.delivered(this);
    if (last) this.#answered();
  }

  prefilled(usage: LegUsage, handover: VirtualHandover): void {
    this.accepted();
    if (!this.active || this.#cancelling) return;
    this.entry.prompt = { tokens: usage.prompt_tokens, cached: usage.cached_tokens };
    this.#at = "holding";
    this.#handover = handover;
    this.handover_expires = this.#host.clock.now + this.#kv_lease - Math.min(HANDOVER_MARGIN_US, this.#kv_lease / 2);
    this.waitForLease();
    const { leg_id, weight, holding_weight } = this.effect;
    this.#host.record({ type: "leg_holding", leg: leg_id, weight: holding_weight ?? weight });
    this.#host.dispatch({ type: "leg_finished", leg_id, usage, finish_reason: "length" });
  }

  failed(error: LegFailure): void {
    this.#patience?.cancel();
    if (!this.active) return;
    // Where the decode instance itself answered, it has told prefill to free; where it is gone, prefill waits out its lease.
    if (error.cause === "status" || error.cause === "rejected" || error.cause === "protocol") this.#source?.release();
    else this.#source?.waitForLease();
    this.#leave();
    const told = { cause: error.cause, failure: toldToClients(error) };
    this.#host.dispatch({ type: "leg_failed", leg_id: this.effect.leg_id, error: told, tokens: this.entry.emitted });
  }

  // ── what happens around it

  /** Its instance is gone. */
  lost(reason: string): void {
    if (this.#at === "holding") return this.release();
    if (!this.active) return;
    this.failed(lost("instance_lost", reason));
    this.#hangUp();
  }

  /** A decode instance has accepted the hand-over and renews the lease itself. */
  takenOver(): void {
    this.#lease?.cancel();
    this.#lease = null;
  }

  waitForLease(): void {
    if (this.#at !== "holding") return;
    const { clock } = this.#host;
    this.#lease ??= clock.alarm(clock.now + this.#kv_lease, () => this.release());
  }

  /** The prefill instance no longer holds this leg's KV. */
  release(): void {
    if (this.#at !== "holding") return;
    this.#leave();
    this.#host.dispatch({ type: "kv_released", leg_id: this.effect.leg_id });
  }

  /** The gateway's process died: nobody is told anything, but the engine sees its connection closed. */
  abandon(): void {
    this.#at = "over";
    this.#lease?.cancel();
    this.#patience?.cancel();
    this.#hangUp();
  }

  #answered(): void {
    const job = this.#job;
    const prompt_tokens = job?.handover?.usage.prompt_tokens ?? job?.prompt_tokens ?? 0;
    const cached_tokens = job?.handover?.usage.cached_tokens ?? job?.cached_tokens ?? 0;
    if (this.effect.role !== "decode") this.entry.prompt = { tokens: prompt_tokens, cached: cached_tokens };
    this.#leave();
    const { max_tokens } = this.entry.sim.call;
    const usage: LegUsage = { prompt_tokens, cached_tokens, completion_tokens: this.tokens };
    const finish_reason = this.tokens >= max_tokens ? "length" : "stop";
    this.#host.dispatch({ type: "leg_finished", leg_id: this.effect.leg_id, usage, finish_reason });
  }

  #giveUp(error: LegFailure): void {
    if (!this.active) return;
    this.#hangUp();
    this.failed(error);
  }

  #cancelled(): void {
    if (!this.active) return;
    // A decode instance that has the hand-over tells prefill to free when it is let go; one that has not tells nobody: then
    // prefill holds the KV until its lease is over, and somebody pays for it (D5).
    if (this.#at === "accepted") this.#source?.release();
    else this.#source?.waitForLease();
    this.#leave();
    this.#host.dispatch({ type: "leg_cancelled", leg_id: this.effect.leg_id, tokens: this.entry.emitted });
  }

  #hangUp(): void {
    this.#patience?.cancel();
    if (this.#job !== null) this.#host.wire.hangUp(this.engine, this.#job);
  }

  #leave(): void {
    this.#at = "over";
    this.#lease?.cancel();
    this.#patience?.cancel();
    this.#host.record({ type: "leg_left", leg: this.effect.leg_id });
    this.#host.over(this);
  }
}

const lost = (cause: LegFailure["cause"], detail: string): LegFailure => ({ cause, failure: failure("engine_failed", detail) });

/** runtime/leg-run.ts: sockets, addresses and engines' own words stay inside (I11). */
const CAUSES: Readonly<Record<Exclude<LegFailure["cause"], "rejected">, string>> = {
  connect: "the engine could not be reached",
  status: "the engine answered with an error",
  stream_cut: "the engine's answer was cut off",
  protocol: "the engine's answer could not be understood",
  timeout: "the engine did not answer in time",
  kv_lost: "the prefilled KV was lost before decode had it",
  instance_lost: "the engine's instance was lost",
};

function toldToClients({ cause, failure: said }: LegFailure): Failure {
  return cause === "rejected" ? said : failure(said.code, CAUSES[cause]);
}
