/**
 * I2: each accepted call ends exactly once, and its client is told. By the scheduler's effects, by the journal, and by what sessions stored:
 * three records that are kept by different hands. Also what makes trying again harmless: no further attempt once a token was sent (D4),
 * nothing for a call after its end, a call that is sent again while it lives changes nothing. And none outlives its deadline by more
 * than it takes to cancel.
 */
import type { CallId, LegId, SessionId } from "../../../schema/core/ids.ts";
import type { Micros } from "../../../schema/core/time.ts";
import type { Effect } from "../../policy/effects.ts";
import type { SchedulerEvent } from "../../policy/events.ts";
import type { MeteringRecord } from "../../policy/metering/records.ts";
import type { SessionFact } from "../sessions/facts.ts";
import type { Call } from "../../policy/vocabulary.ts";
import { Books } from "./checker.ts";

type Known = { readonly deadline: number; ended: boolean; tokens: number };

/** Timers are of whole milliseconds, and what an engine says of a cancelled leg is on its way. */
const TIMERS = 10_000;

export class CallsChecker extends Books {
  readonly invariant = "I2";
  /** Past its deadline a call waits for this long at most: until the legs that it cancelled are over. */
  readonly #cancel_bound: number;
  /** Of the gateway that runs now. */
  readonly #calls = new Map<CallId, Known>();
  readonly #legs = new Map<LegId, CallId>();
  /** Legs that run, and since when they are being cancelled. */
  readonly #running = new Map<CallId, Map<LegId, Micros | null>>();
  /** In the journal: accepted and not ended. */
  readonly #open = new Set<CallId>();
  /** Sent by a session whose log has not its end. */
  readonly #asked = new Map<CallId, SessionId>();

  constructor(cancel_bound: number) {
    super();
    this.#cancel_bound = cancel_bound;
  }

  gatewayDied(): void {
    this.#calls.clear();
    this.#legs.clear();
    this.#running.clear();
  }

  event(event: SchedulerEvent, effects: readonly Effect[], now: Micros): void {
    if (event.type === "call_arrived") this.#arrived(event.call, effects, now);
    this.#tokens(event);
    if (event.type === "leg_finished" || event.type === "leg_failed" || event.type === "leg_cancelled")
      for (const legs of this.#running.values()) if (legs.delete(event.leg_id)) break;
    for (const effect of effects) this.#effect(effect, now);
  }

  clock(now: Micros): void {
    for (const [call, { ended, deadline }] of this.#calls)
      if (!ended)
        this.check(now <= deadline + this.#cancel_bound + TIMERS, now, () => `call ${call} lives on after its deadline at ${deadline}`);
  }

  journalled(record: MeteringRecord, now: Micros): void {
    if (record.type === "call_accepted") {
      this.check(!this.#open.has(record.call), now, () => `the journal accepts ${record.call} twice`);
      this.#open.add(record.call);
    } else if (record.type === "call_ended")
      this.check(this.#open.delete(record.call), now, () => `the journal ends ${record.call}, which is not open there`);
  }

  session(fact: SessionFact, now: Micros): void {
    if (fact.type === "sent") this.#asked.set(fact.call, fact.session);
    if (fact.type !== "stored") return;
    for (const event of fact.events)
      if (event.type === "call_over")
        this.check(this.#asked.delete(event.call), now, () => `${fact.session} was told the end of ${event.call} twice, or never asked`);
  }

  override end(now: Micros): void {
    for (const [call, known] of this.#calls) this.check(known.ended, now, () => `call ${call} was accepted and never ended`);
    for (const call of this.#open) this.check(false, now, () => `call ${call} never ended in the journal`);
    for (const [call, session] of this.#asked) this.check(false, now, () => `${session} was never told how ${call} ended`);
  }

  #arrived({ call_id: call, deadline }: Call, effects: readonly Effect[], now: Micros): void {
    const rejected = effects.some((effect) => effect.type === "reject" && effect.call_id === call);
    const known = this.#calls.get(call);
    if (known !== undefined) {
      // Unless it ends just now: what is due by this instant comes first.
      const started = effects.some(
        (effect) => effect.type === "start_leg" && effect.call_id === call && effect.attempt === 0 && effect.role !== "decode",
      );
      this.check(!rejected, now, () => `call ${call} was refused when it was sent again`);
      this.check(!started || !known.ended, now, () => `call ${call} was started again when it was sent again`);
    } else if (!rejected) this.#calls.set(call, { deadline, ended: false, tokens: 0 });
  }

  #tokens(event: SchedulerEvent): void {
    let [leg, tokens] = ["" as LegId, 0];
    if (event.type === "leg_first_token") [leg, tokens] = [event.leg_id, 1];
    else if (event.type === "leg_progress") [leg, tokens] = [event.leg_id, event.tokens];
    else if (event.type === "leg_failed") [leg, tokens] = [event.leg_id, event.tokens];
    const call = this.#calls.get(this.#legs.get(leg) ?? ("" as CallId));
    if (call !== undefined) call.tokens = Math.max(call.tokens, tokens);
  }

  #effect(effect: Effect, now: Micros): void {
    if (effect.type === "start_leg" && effect.role !== "prefill") this.#legs.set(effect.leg_id, effect.call_id);
    if (effect.type === "cancel_leg") for (const legs of this.#running.values()) if (legs.has(effect.leg_id)) legs.set(effect.leg_id, now);
    if (effect.type === "reject" || !("call_id" in effect)) return;
    const call = this.#calls.get(effect.call_id);
    this.check(call !== undefined, now, () => `${effect.type} for ${effect.call_id}, which was never accepted`);
    if (call === undefined) return;
    this.check(!call.ended, now, () => `${effect.type} for ${effect.call_id} after its end`);
    if (effect.type === "end_call") {
      call.ended = true;
      this.#nothingRuns(effect.call_id, "ended", now);
      this.#running.delete(effect.call_id);
    }
    if (effect.type !== "start_leg") return;
    if (effect.attempt > 0) {
      this.check(call.tokens === 0, now, () => `${effect.call_id} was tried again after ${call.tokens} tokens had been sent (D4)`);
      if (effect.role !== "decode") this.#nothingRuns(effect.call_id, "tried again", now);
    }
    const legs = this.#running.get(effect.call_id) ?? new Map<LegId, Micros | null>();
    this.#running.set(effect.call_id, legs.set(effect.leg_id, null));
  }

  /** Two attempts never run at once, and an end is an end: what was cancelled is over, or has had its time to be. */
  #nothingRuns(call: CallId, what: string, now: Micros): void {
    for (const [leg, cancelled] of this.#running.get(call) ?? [])
      this.check(cancelled !== null && now >= cancelled + this.#cancel_bound, now, () => `${call} was ${what} while ${leg} still ran`);
  }
}
