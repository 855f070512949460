/**
 * The loop: what happens becomes an event, the scheduler decides, its effects are performed. The clock is read once an event.
 *
 * A call: submit → `call_arrived` → (refused at the door | `call_accepted` in the journal, then effects) → legs → `end_call`.
 * Work on a call starts while its journal record is on its way to disk; nothing is told to its client before it is there (D4).
 * Before policy is asked, the lease is (`holds`): one that ran out while this process stood still fences it first (I13).
 * A runtime that no longer commands (fenced, or draining) takes no call; one that is fenced ends those that run (I2, I13).
 */
import { failure, type ErrorCode, type Failure } from "../../schema/core/errors.ts";
import type { CallId, LegId } from "../../schema/core/ids.ts";
import { micros, type Micros } from "../../schema/core/time.ts";
import { LINK_RESUME_WINDOW_MS } from "../../schema/core/wire/limits.ts";
import type { Effect } from "../policy/effects.ts";
import type { SchedulerEvent } from "../policy/events.ts";
import type { CallTags } from "../policy/metering/records.ts";
import type { Call, CallOutcome, LegFailure, LegUsage } from "../policy/vocabulary.ts";
import type { LegDelta } from "../ports/engine.ts";
import type { ProviderEvent, Provision, RunningGroup } from "../ports/provider.ts";
import { CallRegistry, usageOf, type CallEntry, type KnownCall } from "./calls.ts";
import type { Clock } from "./clock.ts";
import { Fleet, type FleetOptions } from "./fleet.ts";
import { digestOf, Intake, type CallRequest } from "./intake.ts";
import { LegRun, type StartLeg } from "./leg-run.ts";
import type { Meter, MeterInput } from "./meter.ts";
import { NOTE_PERIOD_MS, PROGRESS_TICK_MS, SAMPLE_PERIOD_MS } from "./limits.ts";

export interface Scheduler {
  handle(event: SchedulerEvent, now: Micros): readonly Effect[];
}

/** What is worth counting; the server makes metrics of it. */
export interface RuntimeObserver {
  callEnded(entry: CallEntry, outcome: CallOutcome, now: Micros): void;
  callRejected(model: string, failure: Failure): void;
  firstToken(entry: CallEntry, now: Micros): void;
  legStarted(role: string, instance: string): void;
  /** How long a call's record took to be on disk. */
  journaled(took: Micros): void;
}

export type Submission =
  | { readonly type: "started" | "attached"; readonly call: KnownCall }
  | { readonly type: "refused"; readonly failure: Failure; readonly retry_after_ms: number | null };

export type RuntimeOptions = {
  readonly scheduler: Scheduler;
  readonly meter: Pick<Meter, "record" | "durable">;
  readonly clock: Clock;
  readonly fleet: FleetOptions;
  readonly observer: RuntimeObserver;
  /** HMAC(server key, tenant): prefixes are shared inside a tenant only (I3). */
  readonly cacheSalt: (tenant: string) => string;
  /** When the client names no limit. */
  readonly max_tokens_default: number;
  /** Whether policy is told what prompts begin with (IntakeOptions). */
  readonly prompt_prefixes?: boolean;
  readonly provisioned: (provision: Provision) => void;
  /** Whether anything may be commanded now; when it says no, this runtime is fenced, or about to be. */
  readonly holds: () => boolean;
  readonly log: (line: string, fields?: Readonly<Record<string, unknown>>) => void;
};

type Phase = "starting" | "commanding" | "draining" | "fenced" | "closed";

export class Runtime {
  readonly calls = new CallRegistry();
  readonly fleet: Fleet;
  readonly models: ReadonlySet<string>;
  readonly #options: RuntimeOptions;
  readonly #legs = new Map<LegId, LegRun>();
  readonly #intake: Intake;
  /** Calls whose link went away, and when (performance.now). */
  readonly #detached = new Map<CallId, number>();
  readonly #unreported = new Set<LegRun>();
  readonly #pending: SchedulerEvent[] = [];
  readonly #ticks: NodeJS.Timeout[];
  #handling = false;
  #wake: { readonly at: Micros; readonly timer: NodeJS.Timeout } | null = null;
  #phase: Phase = "starting";

  constructor(options: RuntimeOptions) {
    this.#options = options;
    this.#intake = new Intake(options);
    this.models = new Set(options.fleet.pools.map((pool) => pool.model));
    this.fleet = new Fleet(
      {
        record: (input) => this.record(input),
        dispatch: (event) => this.dispatch(event),
        provisioned: options.provisioned,
        log: options.log,
      },
      options.fleet,
    );
    this.#ticks = [
      setInterval(() => this.#reportProgress(), PROGRESS_TICK_MS).unref(),
      setInterval(() => this.#noteProgress(), NOTE_PERIOD_MS).unref(),
      setInterval(() => this.#sweep(), SAMPLE_PERIOD_MS).unref(),
    ];
  }

  get phase(): Phase {
    return this.#phase;
  }
  get legs(): IterableIterator<LegRun> {
    return this.#legs.values();
  }

  /** Takes over what runs, then lets policy plan: its first timer says that adoption is over (I7). */
  async start(groups: readonly RunningGroup[]): Promise<void> {
    await this.fleet.adopt(groups);
    if (this.#phase !== "starting") return;
    this.#phase = "commanding";
    this.dispatch({ type: "timer" });
  }

  onProviderEvent(event: ProviderEvent): void {
    this.fleet.onProviderEvent(event);
  }

  /** The same call id, with the same body, of the same tenant attaches to the call that is there. */
  submit(request: CallRequest): Submission {
    const known = this.calls.find(request.call_id);
    if (known !== undefined) {
      if (known.tags.tenant !== request.tags.tenant || known.tags.project !== request.tags.project)
        return refused(failure("invalid_request", "this call id cannot be used", "call"));
      if (known.digest !== digestOf(request))
        return refused(failure("idempotency_mismatch", "this call id was used with another body", "call"));
      return { type: "attached", call: known };
    }
    if (this.#phase !== "commanding" || !this.#options.holds())
      return refused(failure("gateway_unavailable", unavailable(this.#phase)), 1_000);
    if (!this.models.has(request.tags.model)) return refused(failure("model_not_found", `no model ${request.tags.model}`, "model"));
    if (this.calls.full) return refused(failure("queue_full", "the gateway has as many calls in flight as it takes"), 1_000);
    const entry = this.#intake.entry(request, this.#options.clock.now(), this.fleet.contextTokens(request.tags.model));
    this.calls.add(entry);
    this.dispatch({ type: "call_arrived", call: entry.call });
    return { type: "started", call: entry };
  }

  cancel(call_id: CallId, reason: string): void {
    if (this.calls.running(call_id) !== undefined) this.dispatch({ type: "call_cancelled", call_id, reason });
  }

  /** The link of a resumable call went away: it runs on, and is cancelled when nobody comes back within the window. */
  detached(call_id: CallId): void {
    if (this.calls.running(call_id)?.output.readers === 0) this.#detached.set(call_id, performance.now());
  }

  cancelWhere(matches: (tags: CallTags) => boolean, reason: string): number {
    const ids = [...this.calls.values()].filter((entry) => matches(entry.tags)).map((entry) => entry.call.call_id);
    for (const id of ids) this.cancel(id, reason);
    return ids.length;
  }

  dispatch(event: SchedulerEvent): void {
    this.#pending.push(event);
    if (this.#handling) return;
    this.#handling = true;
    try {
      for (let next = this.#pending.shift(); next !== undefined; next = this.#pending.shift()) this.#handle(next);
    } finally {
      this.#handling = false;
    }
  }

  /** Takes no further call. */
  drain(): void {
    if (this.#phase === "commanding" || this.#phase === "starting") this.#phase = "draining";
  }

  /** Another may command the nodes from now on: everything that runs ends here, and policy is asked no more (I13). */
  fence(reason: string): void {
    if (this.#phase === "fenced" || this.#phase === "closed") return;
    this.#phase = "fenced";
    this.#options.log("fenced", { reason });
    this.#abandon(failure("gateway_lost", reason));
  }

  close(): void {
    if (this.#phase === "closed") return;
    this.#phase = "closed";
    this.#abandon(failure("gateway_lost", "the gateway stopped"));
    for (const tick of this.#ticks) clearInterval(tick);
    if (this.#wake !== null) clearTimeout(this.#wake.timer);
    this.fleet.close();
  }

  #handle(event: SchedulerEvent): void {
    if (this.#phase === "fenced" || this.#phase === "closed" || !this.#options.holds()) return;
    const now = this.#options.clock.now();
    const effects = this.#options.scheduler.handle(event, now);
    if (event.type === "call_arrived" && !effects.some((e) => e.type === "reject" && e.call_id === event.call.call_id))
      this.#accept(event.call);
    for (const effect of effects) this.#perform(effect, now);
  }

  #accept(call: Call): void {
    const entry = this.calls.running(call.call_id);
    if (entry === undefined) return;
    entry.journaled = true;
    this.record({ type: "call_accepted", call: call.call_id, tags: entry.tags });
    void this.#acceptOnceDurable(entry);
  }

  async #acceptOnceDurable(entry: CallEntry): Promise<void> {
    try {
      await this.#options.meter.durable();
    } catch (error) {
      return this.fence(`the journal cannot be written: ${String(error)}`);
    }
    entry.output.accept();
    this.#options.observer.journaled(micros(this.#options.clock.now() - entry.call.arrived));
  }

  #perform(effect: Effect, now: Micros): void {
    switch (effect.type) {
      case "start_leg":
        return this.#startLeg(effect, now);
      case "cancel_leg":
        return this.#legs.get(effect.leg_id)?.cancel();
      case "reserve_decode":
      case "release_decode":
        // The scheduler's own books: an engine has nothing that could be reserved over HTTP.
        return;
      case "reject": {
        const entry = this.calls.running(effect.call_id);
        if (entry === undefined) return;
        this.#options.observer.callRejected(entry.call.model, effect.failure);
        entry.output.refuse({ failure: effect.failure, emitted: 0, usage: null, retry_after_ms: effect.retry_after_ms });
        return this.calls.end(entry, performance.now());
      }
      case "progress":
        return this.calls.running(effect.call_id)?.output.queuedAt(effect.position);
      case "end_call": {
        const entry = this.calls.running(effect.call_id);
        return entry && this.#endCall(entry, effect.outcome, effect.retry_after_ms, now);
      }
      case "launch_group":
        // Where nodes are being given back, policy sees their groups end and wants them again.
        if (this.#phase === "draining")
          return this.dispatch({ type: "launch_failed", effect_id: effect.effect_id, reason: "the gateway is stopping" });
        return void this.fleet.launch(effect);
      case "stop_group":
        return void this.fleet.stop(effect.group_id, effect.drain);
      case "wake_at":
        return this.#wakeAt(effect.at, now);
    }
  }

  #startLeg(effect: StartLeg, now: Micros): void {
    const entry = this.calls.running(effect.call_id);
    const place = this.fleet.instance(effect.instance_id);
    if (entry === undefined || !place?.instance) return this.#cannotStart(effect, "instance_lost", "the instance is gone");
    const source = effect.from_leg === null ? null : (this.#legs.get(effect.from_leg.leg_id) ?? null);
    const handover = source?.handover ?? null;
    // Started after its lease, a decode leg would read other prompts' KV without any error (I3): prefill again instead.
    if (effect.from_leg !== null && (handover === null || effect.accept_by <= now))
      return this.#cannotStart(effect, "kv_lost", "the KV is gone");
    const leg = new LegRun(this, effect, entry, source, place.instance.kv_lease);
    this.#legs.set(effect.leg_id, leg);
    entry.legs.set(effect.leg_id, leg);
    place.legs.add(leg);
    if (effect.role !== "decode") entry.served_by = [];
    entry.served_by.push({ leg: effect.leg_id, role: effect.role, instance: effect.instance_id });
    this.#options.observer.legStarted(effect.role, effect.instance_id);
    leg.start(place.engine, {
      leg_id: effect.leg_id,
      request_id: effect.attempt === 0 ? effect.call_id : `${effect.call_id}-${effect.attempt}`,
      role: effect.role,
      kind: entry.kind,
      body: entry.body,
      handover,
      cache_salt: entry.cache_salt,
      accept_timeout_ms: Math.max(1, Math.ceil((effect.accept_by - now) / 1_000)),
    });
  }

  #cannotStart(effect: StartLeg, cause: "instance_lost" | "kv_lost", detail: string): void {
    const tokens = this.calls.running(effect.call_id)?.emitted ?? 0;
    this.dispatch({ type: "leg_failed", leg_id: effect.leg_id, error: { cause, failure: failure("engine_failed", detail) }, tokens });
  }

  /** LegHost. */
  record(input: MeterInput): void {
    this.#options.meter.record(input);
  }
  deliver(leg: LegRun, delta: LegDelta): void {
    const { entry } = leg;
    entry.emitted += delta.tokens;
    this.#unreported.add(leg);
    if (entry.first_token_at === null) {
      entry.first_token_at = this.#options.clock.now();
      this.#options.observer.firstToken(entry, entry.first_token_at);
    }
    if (entry.output.append(delta) === "overflow") this.cancel(entry.call.call_id, "slow_reader");
  }
  legFailed({ effect }: LegRun, { cause, failure: said }: LegFailure): void {
    const { leg_id, instance_id, role } = effect;
    this.#options.log("leg failed", { leg: leg_id, instance: instance_id, role, cause, code: said.code, detail: said.detail });
  }
  over(leg: LegRun): void {
    this.#legs.delete(leg.effect.leg_id);
    this.#unreported.delete(leg);
    leg.entry.legs.delete(leg.effect.leg_id);
    this.fleet.instance(leg.effect.instance_id)?.legs.delete(leg);
  }

  #endCall(entry: CallEntry, outcome: CallOutcome, retry_after_ms: number | null, now: Micros): void {
    const usage = usageOf(entry, outcome.type === "done" ? outcome.usage : null);
    if (outcome.type === "done") this.#intake.learn(entry);
    this.#journalEnd(entry, outcome, usage);
    if (outcome.type === "done") entry.output.done({ finish_reason: outcome.finish_reason, usage, legs: entry.served_by });
    else
      entry.output.refuse({ failure: failureOf(outcome), emitted: entry.emitted, usage: entry.emitted > 0 ? usage : null, retry_after_ms });
    this.calls.end(entry, performance.now());
    this.#detached.delete(entry.call.call_id);
    this.#options.observer.callEnded(entry, outcome, now);
  }

  #journalEnd(entry: CallEntry, outcome: CallOutcome, usage: LegUsage): void {
    const code = outcome.type === "done" ? null : failureOf(outcome).code;
    const tokens = { prompt: usage.prompt_tokens, cached: usage.cached_tokens, completion: usage.completion_tokens };
    this.record({ type: "call_ended", call: entry.call.call_id, outcome: outcome.type, code, tokens });
  }

  /** Without policy: every leg is closed, every call is ended and told so (I2). */
  #abandon(why: Failure): void {
    const now = this.#options.clock.now();
    for (const leg of this.#legs.values()) leg.lost(why.detail ?? "the gateway stopped");
    for (const entry of this.calls.values()) {
      if (entry.journaled) this.#endCall(entry, { type: "failed", failure: why, emitted: entry.emitted }, 1_000, now);
    }
  }

  #wakeAt(at: Micros, now: Micros): void {
    if (this.#wake !== null) {
      if (this.#wake.at <= at) return;
      clearTimeout(this.#wake.timer);
    }
    const timer = setTimeout(
      () => {
        this.#wake = null;
        this.dispatch({ type: "timer" });
      },
      Math.max(0, Math.ceil((at - now) / 1_000)),
    );
    this.#wake = { at, timer };
  }

  #reportProgress(): void {
    for (const leg of this.#unreported) this.dispatch({ type: "leg_progress", leg_id: leg.effect.leg_id, tokens: leg.tokens });
    this.#unreported.clear();
  }

  #noteProgress(): void {
    const calls = [];
    for (const entry of this.calls.values()) {
      if (!entry.journaled || entry.emitted === entry.noted) continue;
      entry.noted = entry.emitted;
      const { prompt_tokens, cached_tokens, completion_tokens } = usageOf(entry, null);
      calls.push({ call: entry.call.call_id, prompt: prompt_tokens, cached: cached_tokens, completion: completion_tokens });
    }
    if (calls.length > 0) this.record({ type: "calls_progressed", calls });
  }

  #sweep(): void {
    const now_ms = performance.now();
    this.calls.expire(now_ms);
    for (const [call_id, since_ms] of this.#detached) {
      const entry = this.calls.running(call_id);
      if (entry === undefined || entry.output.readers > 0) this.#detached.delete(call_id);
      else if (now_ms - since_ms > LINK_RESUME_WINDOW_MS) this.cancel(call_id, "abandoned");
    }
  }
}

const refused = (why: Failure, retry_after_ms: number | null = null): Submission => ({ type: "refused", failure: why, retry_after_ms });

function unavailable(phase: Phase): string {
  if (phase === "starting") return "the gateway is starting";
  return phase === "fenced" ? "the gateway lost its cell" : "the gateway is stopping";
}

/** Reasons of our own for cancelling, as its client is told of them; any other was the client's. */
const CANCELLED_BY_US: Readonly<Record<string, ErrorCode>> = {
  key_revoked: "revoked_key",
  gateway_stopping: "gateway_unavailable",
  slow_reader: "slow_reader",
};

function failureOf(outcome: Exclude<CallOutcome, { type: "done" }>): Failure {
  if (outcome.type !== "cancelled") return outcome.failure;
  const ours = CANCELLED_BY_US[outcome.reason];
  return ours === undefined ? failure("cancelled", outcome.reason) : failure(ours);
}
