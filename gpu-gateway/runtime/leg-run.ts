/**
 * One leg, from the effect that starts it to the last word about it.
 *
 *   started ── accepted ──┬── finished ───────────────────────── over
 *      │          │       ├── finished with KV to hand over ── holding ── over   (prefill only)
 *      └──────────┴───────┴── failed | cancelled | lost ──────── over
 *
 * The journal hears `leg_joined` on the way in, `leg_holding` when prefilled KV waits, `leg_left` once on the way out (D5); the
 * scheduler hears exactly one outcome (D4). Holding ends when the decode leg has pulled the KV (its first token or its end), when
 * decode refused it or was cancelled with it (the engine then frees it), when the prefill instance is lost, or else with the
 * engine's own lease.
 */
import { failure, type Failure } from "../../schema/core/errors.ts";
import type { Micros } from "../../schema/core/time.ts";
import type { Effect } from "../policy/effects.ts";
import type { SchedulerEvent } from "../policy/events.ts";
import type { LegFailure, LegUsage } from "../policy/vocabulary.ts";
import type { Engine, Handover, LegDelta, LegRequest, LegSink, RunningLeg } from "../ports/engine.ts";
import type { MeterInput } from "./meter.ts";
import type { CallEntry } from "./calls.ts";
import { EMPTY_DELTAS_WITHHELD_MAX } from "./limits.ts";

export type StartLeg = Extract<Effect, { type: "start_leg" }>;

export interface LegHost {
  record(entry: MeterInput): void;
  dispatch(event: SchedulerEvent): void;
  /** A piece of output for the client. */
  deliver(leg: LegRun, delta: LegDelta): void;
  /** For the log: what the engine's adapter said, which no client is told. */
  legFailed(leg: LegRun, error: LegFailure): void;
  /** The leg is over and may be forgotten. */
  over(leg: LegRun): void;
}

type State =
  | { readonly at: "started" | "accepted" | "over" }
  | { readonly at: "holding"; readonly handover: Handover; lease: NodeJS.Timeout | null };

export class LegRun implements LegSink {
  readonly effect: StartLeg;
  readonly entry: CallEntry;
  readonly #host: LegHost;
  /** The prefill leg whose KV this decode leg takes. */
  readonly #source: LegRun | null;
  readonly #kv_lease: Micros;
  #state: State = { at: "started" };
  #running: RunningLeg | null = null;
  #begun = false;
  readonly #withheld: LegDelta[] = [];
  #cancelling = false;
  tokens = 0;

  constructor(host: LegHost, effect: StartLeg, entry: CallEntry, source: LegRun | null, kv_lease: Micros) {
    this.#host = host;
    this.effect = effect;
    this.entry = entry;
    this.#source = source;
    this.#kv_lease = kv_lease;
  }

  get handover(): Handover | null {
    return this.#state.at === "holding" ? this.#state.handover : null;
  }
  get active(): boolean {
    return this.#state.at === "started" || this.#state.at === "accepted";
  }

  start(engine: Engine, request: LegRequest): void {
    const { leg_id, call_id, instance_id, role, weight } = this.effect;
    this.#host.record({ type: "leg_joined", leg: leg_id, call: call_id, instance: instance_id, role, weight });
    this.#running = engine.start(request, this);
  }

  cancel(): void {
    if (!this.active || this.#cancelling) return;
    this.#cancelling = true;
    this.#running?.cancel();
  }

  accepted(): void {
    if (this.#state.at !== "started") return;
    this.#state = { at: "accepted" };
    this.#source?.takenOver();
    this.#host.dispatch({ type: "leg_accepted", leg_id: this.effect.leg_id });
  }

  /** Booked also if the leg never comes to its end. */
  prompt({ prompt_tokens, cached_tokens }: Pick<LegUsage, "prompt_tokens" | "cached_tokens">): void {
    if (this.active && this.effect.role !== "decode") this.entry.prompt = { tokens: prompt_tokens, cached: cached_tokens };
  }

  delta(delta: LegDelta): void {
    // A cancelled leg is still spending until the engine confirms, but its client wants no more.
    if (!this.active || this.effect.role === "prefill" || this.#cancelling) return;
    if (!this.#begun) {
      // An engine says the role before it has the KV, and may still lose it: until a token comes the call can be retried.
      const empty = delta.tokens === 0 && delta.finish_reason === null;
      if (empty && this.#withheld.length < EMPTY_DELTAS_WITHHELD_MAX) return void this.#withheld.push(delta);
      this.#begin();
    }
    this.tokens += delta.tokens;
    this.#host.deliver(this, delta);
  }

  /** The first token: decode has pulled the KV. */
  #begin(): void {
    this.#begun = true;
    this.#source?.release();
    for (const held of this.#withheld) this.#host.deliver(this, held);
    this.#withheld.length = 0;
    this.#host.dispatch({ type: "leg_first_token", leg_id: this.effect.leg_id });
  }

  finished(end: { readonly usage: LegUsage; readonly finish_reason: string; readonly handover: Handover | null }): void {
    if (!this.active) return;
    const { leg_id, role } = this.effect;
    if (role !== "prefill" && !this.#begun) this.#begin();
    this.prompt(end.usage);
    if (role === "prefill" && end.handover !== null) this.#hold(end.handover);
    else this.#leave();
    this.#source?.release();
    this.#host.dispatch({ type: "leg_finished", leg_id, usage: end.usage, finish_reason: end.finish_reason });
  }

  failed(error: LegFailure): void {
    if (!this.active) return;
    // Where the decode instance itself answered, it has told prefill to free; where it is gone, prefill waits out its lease.
    if (error.cause === "status" || error.cause === "rejected" || error.cause === "protocol") this.#source?.release();
    else this.#source?.waitForLease();
    this.#leave();
    this.#host.legFailed(this, error);
    const told = { cause: error.cause, failure: toldToClients(error) };
    this.#host.dispatch({ type: "leg_failed", leg_id: this.effect.leg_id, error: told, tokens: this.entry.emitted });
  }

  cancelled(): void {
    if (!this.active) return;
    // A decode instance that has the hand-over tells prefill to free when it is let go; one that has not tells nobody: then
    // prefill holds the KV until its lease is over, and somebody pays for it (D5).
    if (this.#state.at === "accepted") this.#source?.release();
    else this.#source?.waitForLease();
    this.#leave();
    this.#host.dispatch({ type: "leg_cancelled", leg_id: this.effect.leg_id, tokens: this.entry.emitted });
  }

  /** Its instance is gone. */
  lost(reason: string): void {
    if (this.#state.at === "holding") return this.release();
    if (!this.active) return;
    const running = this.#running;
    this.failed({ cause: "instance_lost", failure: failure("engine_failed", reason) });
    running?.cancel();
  }

  /** A decode instance has accepted the hand-over and renews the lease itself. */
  takenOver(): void {
    if (this.#state.at !== "holding" || this.#state.lease === null) return;
    clearTimeout(this.#state.lease);
    this.#state.lease = null;
  }

  waitForLease(): void {
    if (this.#state.at !== "holding") return;
    this.#state.lease ??= this.#leaseTimer();
  }

  /** The prefill instance no longer holds this leg's KV. */
  release(): void {
    if (this.#state.at !== "holding") return;
    if (this.#state.lease !== null) clearTimeout(this.#state.lease);
    this.#leave();
    this.#host.dispatch({ type: "kv_released", leg_id: this.effect.leg_id });
  }

  #hold(handover: Handover): void {
    this.#state = { at: "holding", handover, lease: this.#leaseTimer() };
    const { leg_id, weight, holding_weight } = this.effect;
    this.#host.record({ type: "leg_holding", leg: leg_id, weight: holding_weight ?? weight });
  }

  #leaseTimer(): NodeJS.Timeout {
    return setTimeout(() => this.release(), Math.ceil(this.#kv_lease / 1_000)).unref();
  }

  #leave(): void {
    this.#state = { at: "over" };
    this.#running = null;
    this.#host.record({ type: "leg_left", leg: this.effect.leg_id });
    this.#host.over(this);
  }
}

const CAUSES: Readonly<Record<Exclude<LegFailure["cause"], "rejected">, string>> = {
  connect: "the engine could not be reached",
  status: "the engine answered with an error",
  stream_cut: "the engine's answer was cut off",
  protocol: "the engine's answer could not be understood",
  timeout: "the engine did not answer in time",
  kv_lost: "the prefilled KV was lost before decode had it",
  instance_lost: "the engine's instance was lost",
};

/** Sockets, addresses and engines' own words stay inside (I11). What the engine refuses in a request is the client's to know. */
function toldToClients({ cause, failure: said }: LegFailure): Failure {
  return cause === "rejected" ? said : failure(said.code, CAUSES[cause]);
}
