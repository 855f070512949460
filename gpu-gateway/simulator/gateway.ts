/**
 * One life of the gateway, from a start to its process's end: events to the real scheduler, its effects performed on virtual engines.
 * Mirrors runtime/runtime.ts: the same events in the same order, the same records. What is queued as a microtask there happens here
 * when the event in hand and those that it brought have been handled.
 */
import { failure } from "../../schema/core/errors.ts";
import type { CallId, LegId } from "../../schema/core/ids.ts";
import type { Micros } from "../../schema/core/time.ts";
import type { Effect } from "../policy/effects.ts";
import type { SchedulerEvent } from "../policy/events.ts";
import type { Scheduler } from "../policy/scheduler.ts";
import type { Call, CallOutcome } from "../policy/vocabulary.ts";
import { CallEntry, tagsOf } from "./call-entry.ts";
import { type Alarm, Tick, type VirtualClock } from "./clock.ts";
import { Fleet, type FleetHost } from "./fleet.ts";
import { CALLS_IN_FLIGHT_MAX, PROGRESS_TICK_MS, SAMPLE_PERIOD_MS } from "./limits.ts";
import { Leg, type LegHost, type StartLeg } from "./leg.ts";
import type { Machines } from "./machines.ts";
import { METER_TICK_US, type Recordable, type Records } from "./records.ts";
import type { Tally } from "./tally.ts";
import type { Arrival } from "./types.ts";
import type { Wire } from "./wire.ts";

export type GatewayParts = {
  readonly clock: VirtualClock;
  readonly machines: Machines;
  readonly wire: Wire;
  readonly records: Records;
  readonly tally: Tally;
  readonly observe: ((event: SchedulerEvent, effects: readonly Effect[], now: Micros) => void) | null;
  /** The call is over for its client. */
  readonly ended: (entry: CallEntry, outcome: CallOutcome) => void;
};

export class Gateway implements LegHost, FleetHost {
  readonly clock: VirtualClock;
  readonly machines: Machines;
  readonly wire: Wire;
  readonly fleet: Fleet;
  running = true;
  readonly #parts: GatewayParts;
  readonly #scheduler: Pick<Scheduler, "handle">;
  readonly #calls = new Map<CallId, CallEntry>();
  readonly #legs = new Map<LegId, Leg>();
  readonly #ticks: readonly Tick[];
  #unreported: Leg[] = [];
  readonly #pending: SchedulerEvent[] = [];
  readonly #soon: (() => void)[] = [];
  #handling = false;
  #wake: { readonly at: number; readonly alarm: Alarm } | null = null;

  constructor(parts: GatewayParts, scheduler: Pick<Scheduler, "handle">) {
    this.#parts = parts;
    this.clock = parts.clock;
    this.machines = parts.machines;
    this.wire = parts.wire;
    this.#scheduler = scheduler;
    this.fleet = new Fleet(this);
    this.#ticks = [
      new Tick(this.clock, PROGRESS_TICK_MS * 1_000, () => this.#reportProgress()),
      new Tick(this.clock, SAMPLE_PERIOD_MS * 1_000, () => this.fleet.sample()),
      ...(parts.records.wanted ? [new Tick(this.clock, METER_TICK_US, () => parts.records.tick())] : []),
    ];
  }

  /** Takes over what runs, then lets policy plan: its first timer says that adoption is over (I7). */
  start(): void {
    this.fleet.adopt();
    this.dispatch({ type: "timer" });
  }

  get calls(): number {
    return this.#calls.size;
  }

  /** The request is here. */
  submit({ at, sim }: Arrival): void {
    const { call } = sim;
    const now = this.clock.now as Micros;
    const deadline = (call.deadline + (now - call.arrived)) as Micros;
    const entry = new CallEntry(sim, now === call.arrived ? call : { ...call, arrived: now, deadline }, at);
    if (this.#calls.has(call.call_id))
      throw new RangeError(`call ${call.call_id} was sent while it was in flight: clients name each call once`);
    if (this.#calls.size >= CALLS_IN_FLIGHT_MAX) return this.#refused(entry, failure("queue_full"));
    this.#calls.set(call.call_id, entry);
    this.dispatch({ type: "call_arrived", call: entry.call });
  }

  /** The same call sent again attaches to it: policy hears of it. False: it is not in flight. */
  again(call_id: CallId): boolean {
    const entry = this.#calls.get(call_id);
    if (entry !== undefined) this.dispatch({ type: "call_arrived", call: entry.call });
    return entry !== undefined;
  }

  /** False: it is not in flight. */
  cancel(call_id: CallId, reason: string): boolean {
    if (!this.#calls.has(call_id)) return false;
    this.dispatch({ type: "call_cancelled", call_id, reason });
    return true;
  }

  /** Its process dies: engines see their connections closed, clients theirs. Nothing is journalled. */
  crash(): void {
    this.running = false;
    for (const tick of this.#ticks) tick.stopped = true;
    this.#wake?.alarm.cancel();
    for (const leg of this.#legs.values()) leg.abandon();
    for (const entry of this.#calls.values())
      this.#parts.ended(entry, { type: "failed", failure: failure("gateway_lost"), emitted: entry.emitted });
  }

  dispatch(event: SchedulerEvent): void {
    if (!this.running) return;
    this.#pending.push(event);
    if (this.#handling) return;
    this.#handling = true;
    for (;;) {
      for (let next = this.#pending.shift(); next !== undefined; next = this.#pending.shift()) this.#handle(next);
      const act = this.#soon.shift();
      if (act === undefined) break;
      this.#handling = false;
      act();
      this.#handling = true;
    }
    this.#handling = false;
  }

  /** LegHost, FleetHost. */
  record(input: Recordable): void {
    this.#parts.records.record(input);
  }
  soon(act: () => void): void {
    this.#soon.push(act);
  }
  delivered(leg: Leg): void {
    const { entry } = leg;
    const { now } = this.clock;
    entry.emitted++;
    if (!leg.unreported) {
      leg.unreported = true;
      this.#unreported.push(leg);
    }
    if (entry.first_token === null) {
      entry.first_token = now;
      entry.transfer = transferOf(leg);
    } else this.#parts.tally.gap(now - leg.last_token_at);
    leg.last_token_at = now;
    entry.last_token = now;
  }
  over(leg: Leg): void {
    const { leg_id, instance_id } = leg.effect;
    this.#legs.delete(leg_id);
    leg.entry.legs.delete(leg_id);
    this.fleet.member(instance_id)?.legs.delete(leg);
  }

  #handle(event: SchedulerEvent): void {
    if (!this.running) return;
    const now = this.clock.now as Micros;
    const effects = this.#scheduler.handle(event, now);
    const { tally, observe } = this.#parts;
    tally.scheduler_events++;
    observe?.(event, effects, now);
    if (event.type === "call_arrived" && !effects.some((e) => e.type === "reject" && e.call_id === event.call.call_id))
      this.#accept(event.call);
    for (const effect of effects) this.#perform(effect);
  }

  #accept(call: Call): void {
    const entry = this.#calls.get(call.call_id);
    if (entry === undefined || entry.accepted) return;
    entry.accepted = true;
    if (this.#parts.records.wanted) this.record({ type: "call_accepted", call: call.call_id, tags: tagsOf(call) });
  }

  #perform(effect: Effect): void {
    switch (effect.type) {
      case "start_leg":
        return this.#startLeg(effect);
      case "cancel_leg":
        return this.#legs.get(effect.leg_id)?.cancel();
      case "reserve_decode":
      case "release_decode":
      case "progress":
        return;
      case "reject": {
        const entry = this.#calls.get(effect.call_id);
        if (entry === undefined) return;
        this.#calls.delete(effect.call_id);
        return this.#refused(entry, effect.failure);
      }
      case "end_call": {
        const entry = this.#calls.get(effect.call_id);
        return entry && this.#endCall(entry, effect.outcome);
      }
      case "launch_group":
        return this.fleet.launch(effect);
      case "stop_group":
        return this.fleet.stop(effect.group_id, effect.drain);
      case "wake_at":
        return this.#wakeAt(effect.at);
    }
  }

  #startLeg(effect: StartLeg): void {
    const entry = this.#calls.get(effect.call_id);
    const member = this.fleet.member(effect.instance_id);
    if (entry === undefined || member === undefined) return this.#cannotStart(effect, "instance_lost", "the instance is gone");
    const source = effect.from_leg === null ? null : (this.#legs.get(effect.from_leg.leg_id) ?? null);
    const handover = source?.handover ?? null;
    // Started after its lease, a decode leg would read other prompts' KV without any error (I3): prefill again instead.
    if (effect.from_leg !== null && (handover === null || effect.accept_by <= this.clock.now))
      return this.#cannotStart(effect, "kv_lost", "the KV is gone");
    const leg = new Leg(this, effect, entry, source, member.group.engine, member.instance.kv_lease);
    this.#legs.set(effect.leg_id, leg);
    entry.legs.set(effect.leg_id, leg);
    member.legs.add(leg);
    if (effect.role !== "decode") {
      entry.started = this.clock.now;
      entry.prefill = effect.instance_id;
      entry.decode = null;
    }
    if (effect.role !== "prefill") entry.decode = effect.instance_id;
    const hint = effect.fetch_prefix_from;
    const peer = hint === undefined ? undefined : this.fleet.member(hint.instance_id)?.group.engine;
    leg.start(handover, hint === undefined || peer === undefined ? null : { engine: peer, tokens: hint.tokens });
  }

  #cannotStart(effect: StartLeg, cause: "instance_lost" | "kv_lost", detail: string): void {
    const tokens = this.#calls.get(effect.call_id)?.emitted ?? 0;
    this.dispatch({ type: "leg_failed", leg_id: effect.leg_id, error: { cause, failure: failure("engine_failed", detail) }, tokens });
  }

  #refused(entry: CallEntry, why: ReturnType<typeof failure>): void {
    this.#parts.ended(entry, { type: "shed", failure: why });
  }

  #endCall(entry: CallEntry, outcome: CallOutcome): void {
    const { call_id } = entry.call;
    const usage = entry.usage(outcome);
    const code = outcome.type === "done" ? null : outcome.type === "cancelled" ? "cancelled" : outcome.failure.code;
    const tokens = { prompt: usage.prompt_tokens, cached: usage.cached_tokens, completion: usage.completion_tokens };
    this.record({ type: "call_ended", call: call_id, outcome: outcome.type, code, tokens });
    this.#calls.delete(call_id);
    this.#parts.ended(entry, outcome);
  }

  /** Timers are of whole milliseconds, and never early. */
  #wakeAt(at: number): void {
    const { now } = this.clock;
    if (this.#wake !== null) {
      if (this.#wake.at <= at) return;
      this.#wake.alarm.cancel();
    }
    const alarm = this.clock.alarm(now + Math.max(0, Math.ceil((at - now) / 1_000)) * 1_000, () => {
      this.#wake = null;
      this.dispatch({ type: "timer" });
    });
    this.#wake = { at, alarm };
  }

  #reportProgress(): void {
    const legs = this.#unreported;
    if (legs.length === 0) return;
    this.#unreported = [];
    for (const leg of legs) {
      leg.unreported = false;
      if (!leg.ended) this.dispatch({ type: "leg_progress", leg_id: leg.effect.leg_id, tokens: leg.tokens });
    }
  }
}

/** From the end of prefill until its KV was where decode is. */
function transferOf({ job }: Leg): number | null {
  if (job === null || job.handover === null || job.received_at === null) return null;
  return job.received_at - job.handover.prefilled_at;
}
