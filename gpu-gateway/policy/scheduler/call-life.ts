/**
 * The life of a call.
 *
 *   arrives ─▶ queued ─┬─▶ whole ───────────────────────┐
 *     │          ▲ │   └─▶ prefilling ──▶ decoding ─────┤
 *     ▼          │ │            │             │         ▼
 *  rejected      │ └────────────│─────────────│──────▶ ended (done, cancelled, shed, failed)
 *                │              ▼             ▼         ▲
 *                └─ resting ◀─ aborting ◀─────┘ ────────┘
 *
 * Queued: it waits for its turn; past its deadline it is shed. Whole: one leg does it all. Prefilling: a decode slot is
 * reserved, then the prefill leg started (D3). Decoding: prefill holds the KV, the decode leg has been started and must be
 * accepted while the lease has a margin left; a late decode would read other prompts' KV (I3), so it is cancelled instead and
 * the prompt prefilled again. Aborting: something ended the attempt (a failure, a loss, a cancel, the deadline); the legs that
 * still run have been cancelled, and what comes after is already decided. Only when all of them are over, or the cancel bound
 * has passed, is the reservation released and the call ended or queued again: two attempts never run at once. Resting: the
 * only instance that could serve the call has just failed it, so the next attempt waits a little.
 *
 * What is kept here:
 *  - I2: an accepted call ends once, by `#end`, which forgets it: nothing can come for it afterwards.
 *  - D3: a reservation is made before its prefill leg starts and released once, in `#release`.
 *  - D4: only policy retries: when no token was sent, failures and time remain, and the cause allows it.
 *  - Each state but ended has an instant at which it ends by itself (`#dueAt`): nothing hangs, whatever outcome never comes.
 */
import { type Failure, failure } from "../../../schema/core/errors.ts";
import { type CallId, legId } from "../../../schema/core/ids.ts";
import type { Micros } from "../../../schema/core/time.ts";
import { kvDemand, uncachedTokens } from "../estimate/kv-demand.ts";
import type { CacheManagement, CostAllocation, Ordering, TimeEstimates } from "../policies.ts";
import type { Call, CallOutcome, LegFailure, LegRole, LegUsage, PrefixFetch } from "../vocabulary.ts";
import { type AfterAbort, CallRecord } from "./call-record.ts";
import { type InstanceEntry, Reservation } from "./instance-book.ts";
import { type Leg, LegBook } from "./leg-book.ts";
import type { SchedulerLimits } from "./limits.ts";
import type { Outbox } from "./outbox.ts";
import type { PairPlacement } from "./placing.ts";
import type { Queues } from "./queues.ts";
import type { Timers } from "./timers.ts";

type Tools = {
  readonly outbox: Outbox;
  readonly timers: Timers;
  readonly queues: Queues;
  readonly limits: SchedulerLimits;
  readonly cache: CacheManagement;
  readonly ordering: Ordering;
  readonly allocation: CostAllocation;
  readonly estimates: TimeEstimates | null;
  /** Another instance of the same model and role is ready to take over. */
  readonly replaceable: (entry: InstanceEntry) => boolean;
  /** Nobody answers there: it gets no leg for a while. */
  readonly unreachable: (entry: InstanceEntry, now: Micros) => void;
};

export class CallLife {
  readonly legs = new LegBook();
  readonly #tools: Tools;
  /** Bounded by the queues' bounds and the instances' slots. */
  readonly #calls = new Map<CallId, CallRecord>();
  #reservations = 0;
  /** By model: they come back to its queue. */
  readonly #resting = new Map<string, number>();

  constructor(tools: Tools) {
    this.#tools = tools;
  }

  get live(): number {
    return this.#calls.size;
  }

  get reservations(): number {
    return this.#reservations;
  }

  resting(model: string): number {
    return this.#resting.get(model) ?? 0;
  }

  has(call_id: CallId): boolean {
    return this.#calls.has(call_id);
  }

  // ── what clients do

  arrive(call: Call): CallRecord {
    const record = new CallRecord(call, (late, now) => this.#onTimer(late, now));
    this.#calls.set(call.call_id, record);
    this.#enqueue(record);
    return record;
  }

  cancel(call_id: CallId, reason: string, now: Micros): void {
    const record = this.#calls.get(call_id);
    if (record === undefined) return;
    if (record.state === "aborting") record.after = { type: "cancelled", reason };
    else this.#abort(record, { type: "cancelled", reason }, reason, now);
  }

  // ── what routing decides

  startWhole(record: CallRecord, entry: InstanceEntry, fetched: PrefixFetch | null, now: Micros): void {
    this.#tools.queues.remove(record);
    record.state = "whole";
    const accept_by = this.#noLaterThanDeadline(record, now + this.#tools.limits.whole_accept);
    record.answer = this.#startLeg({ record, role: "whole", entry, from: null, fetched, accept_by, now });
    this.#reschedule(record);
  }

  startTwo(record: CallRecord, { prefill, decode, fetched }: Omit<PairPlacement, "type">, now: Micros): void {
    const { queues, outbox, limits } = this.#tools;
    queues.remove(record);
    record.state = "prefilling";
    this.#reservations += 1;
    record.reservation = new Reservation(decode, record, kvDemand(record.call, "decode"));
    outbox.emit({ type: "reserve_decode", call_id: record.call.call_id, instance_id: decode.instance.instance_id });
    const accept_by = this.#noLaterThanDeadline(record, now + limits.prefill_accept);
    record.prefill = this.#startLeg({ record, role: "prefill", entry: prefill, from: null, fetched, accept_by, now });
    this.#reschedule(record);
  }

  /** No instance could ever serve it: it leaves the queue. */
  shed(record: CallRecord, why: Failure): void {
    this.#tools.queues.remove(record);
    this.#end(record, { type: "shed", failure: why });
  }

  // ── what engines report

  accepted(leg: Leg): void {
    this.legs.accept(leg);
    if (leg.record.state !== "aborting") this.#reschedule(leg.record);
  }

  /** `tokens`: the total so far. Only the answer's tokens reach the client. */
  progressed(leg: Leg, tokens: number, now: Micros): void {
    if (leg.role === "prefill") return;
    const { record } = leg;
    this.#emitted(record, tokens);
    leg.first_token ??= now;
    const was_starting = leg.state === "starting";
    this.legs.accept(leg);
    if (leg.prefill_tokens > 0) {
      this.#learnPrefill(leg, leg.hit_tokens, now);
      this.legs.promptComputed(leg, now);
      this.#freed(leg.entry);
    }
    if (leg.role === "decode" && leg.state === "running") this.#pulled(record);
    if (was_starting && record.state !== "aborting") this.#reschedule(record);
  }

  finished(leg: Leg, usage: LegUsage, finish_reason: string, now: Micros): void {
    const { record } = leg;
    if (leg.state === "holding") return;
    if (leg.role !== "prefill") this.#emitted(record, usage.completion_tokens);
    if (leg.state === "cancelling") {
      // The cancel came too late for a prefill: its instance holds KV that nobody will pull, until the lease is over.
      if (leg.role === "prefill") this.#holdInVain(leg, now);
      else this.#legOver(leg, now);
      this.#settleWhenOver(record, now);
      return;
    }
    if (leg.role === "prefill") {
      this.#prefilled(leg, usage, now);
      return;
    }
    this.#pulled(record);
    this.#learnDecode(leg, usage.completion_tokens, now);
    this.#legOver(leg, now);
    this.#release(record);
    const prompt = record.prefill_usage ?? usage;
    this.#end(record, {
      type: "done",
      finish_reason,
      usage: {
        prompt_tokens: prompt.prompt_tokens,
        cached_tokens: prompt.cached_tokens,
        completion_tokens: usage.completion_tokens,
      },
    });
  }

  failed(leg: Leg, error: LegFailure, tokens: number, now: Micros): void {
    const { record } = leg;
    if (leg.role !== "prefill") this.#emitted(record, tokens);
    switch (leg.state) {
      case "cancelling":
        this.#legOver(leg, now);
        this.#settleWhenOver(record, now);
        return;
      case "holding":
        this.#kvGone(leg, error.failure, now);
        return;
      case "starting":
      case "running": {
        // The decode instance says that the KV is gone: then the one that held it is to blame.
        const culprit = error.cause === "kv_lost" ? (record.prefill?.entry ?? leg.entry) : leg.entry;
        this.#legOver(leg, now);
        if (error.cause === "connect") this.#tools.unreachable(culprit, now);
        this.#abort(record, afterFailure(error, culprit), error.cause, now);
        return;
      }
      case "gone":
    }
  }

  cancelled(leg: Leg, tokens: number, now: Micros): void {
    const { record } = leg;
    if (leg.state === "holding") return;
    if (leg.role !== "prefill") this.#emitted(record, tokens);
    const asked = leg.state === "cancelling";
    this.#legOver(leg, now);
    if (asked) this.#settleWhenOver(record, now);
    else this.#abort(record, retry("the leg was cancelled at the engine", leg.entry), "cancelled", now);
  }

  /** Pulled, released, or its lease is over: the instance does not hold it any more. */
  kvReleased(leg: Leg): void {
    if (leg.state !== "holding") return;
    if (leg.record.prefill === leg) this.#pulled(leg.record);
    else this.#dropHolding(leg);
  }

  // ── what happens to instances

  instanceLost(entry: InstanceEntry, now: Micros): void {
    const why = `instance ${entry.instance.instance_id} was lost`;
    for (const leg of entry.legs_here) {
      if (leg.state === "holding") this.#kvGone(leg, failure("engine_failed", why), now);
      else if (leg.state === "starting" || leg.state === "running") this.#abort(leg.record, retry(why, entry), "instance_lost", now);
    }
    this.displaceReserved(entry, now);
  }

  /** A decode instance that is going away gets no new legs: calls whose prefill was meant for it start over elsewhere. */
  displaceReserved(entry: InstanceEntry, now: Micros): void {
    const after: AfterAbort = { type: "retry", failure: failure("no_capacity"), counts: false, culprit: null };
    for (const { record, has_leg } of entry.reservations)
      if (!has_leg && record.state === "prefilling") this.#abort(record, after, "decode_instance_gone", now);
  }

  // ── transitions

  #enqueue(record: CallRecord): void {
    record.state = "queued";
    record.told = 0;
    this.#tools.queues.add(record);
    this.#reschedule(record);
  }

  #startLeg({ record, role, entry, from, fetched, accept_by, now }: LegStart): Leg {
    const { call } = record;
    const { outbox, cache, allocation, ordering, estimates } = this.#tools;
    const { instance_id } = entry.instance;
    const leg_id = legId(call.call_id, record.attempt, role);
    const kv_tokens = kvDemand(call, role);
    // Decode is handed the KV of the whole prompt: it computes none of it and its cache is not asked.
    const hit_tokens = role === "decode" ? 0 : (fetched?.tokens ?? cache.expected_hit_tokens(call, instance_id));
    const prefill_tokens = role === "decode" ? 0 : uncachedTokens(call, hit_tokens);
    if (role !== "decode") {
      cache.placed(call, entry.instance);
      ordering.served(call, { type: "placed", hit_tokens });
    }
    const weighed = { leg_id, role, prompt_tokens: call.prompt_tokens, hit_tokens, kv_tokens };
    const leg = this.legs.open({
      leg_id,
      record,
      role,
      entry,
      started: now,
      accept_by,
      kv_tokens: role === "decode" ? 0 : kv_tokens,
      prefill_tokens,
      hit_tokens,
      prefill_work:
        prefill_tokens === 0 || estimates === null ? NO_TIME : estimates.prefill_time(entry.instance, prefill_tokens, hit_tokens),
    });
    outbox.emit({
      type: "start_leg",
      effect_id: outbox.nextEffectId(),
      leg_id,
      call_id: call.call_id,
      attempt: record.attempt,
      role,
      instance_id,
      from_leg: from === null ? null : { leg_id: from.leg_id, instance_id: from.entry.instance.instance_id },
      ...(fetched === null ? {} : { fetch_prefix_from: fetched }),
      weight: allocation.weight({ ...weighed, holding: false }),
      ...(role === "prefill" ? { holding_weight: allocation.weight({ ...weighed, holding: true }) } : {}),
      accept_by,
    });
    return leg;
  }

  #prefilled(leg: Leg, usage: LegUsage, now: Micros): void {
    const { limits } = this.#tools;
    const { record } = leg;
    const { kv_lease } = leg.entry.instance;
    record.prefill_usage = usage;
    this.#learnPrefill(leg, usage.cached_tokens, now);
    this.#hold(leg, now);
    const lease_left = kv_lease - limits.kv_lease_margin;
    if (lease_left <= 0 || record.reservation === null) {
      this.#abort(record, retry("prefill holds its KV too shortly to hand it over", leg.entry), "kv_lease", now);
      return;
    }
    record.state = "decoding";
    record.reservation.becomeLeg();
    const accept_by = this.#noLaterThanDeadline(record, now + lease_left);
    const { entry } = record.reservation;
    record.answer = this.#startLeg({ record, role: "decode", entry, from: leg, fetched: null, accept_by, now });
    this.#reschedule(record);
  }

  #hold(leg: Leg, now: Micros): void {
    leg.record.model_time += now - leg.started;
    const lease_end = this.legs.hold(leg, (holding, at) => this.#leaseOver(holding, at), now);
    this.#tools.timers.set(lease_end, (now + leg.entry.instance.kv_lease) as Micros);
    this.#freed(leg.entry);
  }

  #holdInVain(leg: Leg, now: Micros): void {
    const { record } = leg;
    if (leg.entry.instance.kv_lease === 0) {
      this.#legOver(leg, now);
      return;
    }
    this.#hold(leg, now);
    if (record.prefill === leg) record.prefill = null;
  }

  /** Cancels what still runs of the attempt; `after` happens when all of it is over. A call that runs nothing goes on at once. */
  #abort(record: CallRecord, after: AfterAbort, reason: string, now: Micros): void {
    const { outbox, timers, limits, queues } = this.#tools;
    if (record.state === "queued") queues.remove(record);
    if (record.state === "resting") this.#rested(record);
    record.state = "aborting";
    record.after = after;
    record.cancel_by = (now + limits.cancel_bound) as Micros;
    timers.set(record.timer, record.cancel_by);
    // The KV stays until its lease is over: engines offer no way to drop it but a decode leg that goes away.
    if (record.prefill?.state === "holding") record.prefill = null;
    for (const leg of [record.prefill, record.answer]) {
      if (leg === null || (leg.state !== "starting" && leg.state !== "running")) continue;
      this.legs.cancelling(leg);
      outbox.emit({ type: "cancel_leg", effect_id: outbox.nextEffectId(), leg_id: leg.leg_id, reason });
    }
    this.#settleWhenOver(record, now);
  }

  #settleWhenOver(record: CallRecord, now: Micros): void {
    const { after } = record;
    if (record.state !== "aborting" || after === null || record.prefill !== null || record.answer !== null) return;
    this.#release(record);
    switch (after.type) {
      case "cancelled":
        this.#end(record, { type: "cancelled", reason: after.reason, emitted: record.emitted });
        return;
      case "failed":
        this.#end(record, { type: "failed", failure: after.failure, emitted: record.emitted });
        return;
      case "retry":
        this.#retryOrFail(record, after, now);
    }
  }

  #retryOrFail(record: CallRecord, after: AfterAbort & { type: "retry" }, now: Micros): void {
    const { limits, replaceable } = this.#tools;
    if (after.counts) record.failures += 1;
    const late = now >= record.call.deadline;
    if (late || record.emitted > 0 || record.failures >= limits.failures_max) {
      this.#end(record, { type: "failed", failure: late ? PAST_DEADLINE : after.failure, emitted: record.emitted });
      return;
    }
    this.#tools.ordering.served(record.call, { type: "returned" });
    record.attempt += 1;
    record.after = null;
    record.prefill_usage = null;
    const { culprit } = after;
    if (culprit !== null && !record.avoid.includes(culprit.instance.instance_id)) record.avoid.push(culprit.instance.instance_id);
    if (culprit === null || culprit.state !== "ready" || replaceable(culprit)) {
      this.#enqueue(record);
      return;
    }
    record.state = "resting";
    this.#resting.set(record.call.model, this.resting(record.call.model) + 1);
    record.rest_until = (now + limits.retry_rest * 2 ** (record.failures - 1)) as Micros;
    this.#reschedule(record);
  }

  #rested({ call: { model } }: CallRecord): void {
    const left = this.resting(model) - 1;
    if (left > 0) this.#resting.set(model, left);
    else this.#resting.delete(model);
  }

  /** I2: the one place where a call ends. */
  #end(record: CallRecord, outcome: CallOutcome): void {
    const { timers, ordering, outbox } = this.#tools;
    record.state = "ended";
    timers.clear(record.timer);
    this.#calls.delete(record.call.call_id);
    ordering.finished(record.call, { usage: outcome.type === "done" ? outcome.usage : null, model_time: record.model_time as Micros });
    outbox.emit({ type: "end_call", call_id: record.call.call_id, outcome, retry_after_ms: null });
  }

  /** Tokens of the answer so far, in all. */
  #emitted(record: CallRecord, tokens: number): void {
    if (tokens <= record.emitted) return;
    record.emitted = tokens;
    this.#tools.ordering.served(record.call, { type: "output", tokens });
  }

  // ── what durations teach

  /** Engines take prompts in turn: a prefill's own time began when the one before it was done. */
  #learnPrefill(leg: Leg, cached_tokens: number, now: Micros): void {
    const { estimates } = this.#tools;
    if (estimates?.prefilled === undefined) return;
    const took = now - Math.max(leg.started, leg.entry.prefill_done);
    const { call } = leg.record;
    const cached = Math.min(cached_tokens, call.prompt_tokens - 1);
    if (took > 0) estimates.prefilled(leg.entry.instance, uncachedTokens(call, cached), cached, took as Micros);
  }

  #learnDecode(leg: Leg, tokens: number, now: Micros): void {
    const { estimates } = this.#tools;
    if (estimates?.decoded === undefined || leg.first_token === null || tokens < 2) return;
    estimates.decoded(leg.entry, tokens - 1, (now - leg.first_token) as Micros);
  }

  // ── KV and slots

  /** Decode has the KV: prefill holds it no longer, and a loss of the prefill instance does not touch the call. */
  #pulled(record: CallRecord): void {
    if (record.prefill?.state !== "holding") return;
    const holding = record.prefill;
    record.prefill = null;
    this.#dropHolding(holding);
    if (record.reservation !== null) {
      record.reservation.pull();
      this.#freed(record.reservation.entry);
    }
  }

  /** The KV is lost. Unless decode had it already (then the call does not point here any more), the attempt is over. */
  #kvGone(leg: Leg, why: Failure, now: Micros): void {
    const { record } = leg;
    const needed = record.prefill === leg;
    if (needed) record.prefill = null;
    this.#dropHolding(leg);
    if (needed) this.#abort(record, retry(why.detail ?? "the prefilled KV was lost", leg.entry), "kv_lost", now);
  }

  /** While an accepted decode leg has not pulled, the engine renews the lease; else the KV is gone now. */
  #leaseOver(leg: Leg, now: Micros): void {
    const { record, lease_end } = leg;
    if (record.prefill !== leg) this.#dropHolding(leg);
    else if (record.answer?.state === "running" && lease_end !== null)
      this.#tools.timers.set(lease_end, (now + leg.entry.instance.kv_lease) as Micros);
    else this.#kvGone(leg, failure("engine_failed", LEASE_OVER), now);
  }

  #dropHolding(leg: Leg): void {
    if (leg.lease_end !== null) this.#tools.timers.clear(leg.lease_end);
    this.legs.close(leg);
    this.#freed(leg.entry);
  }

  #legOver(leg: Leg, now: Micros): void {
    const { record } = leg;
    record.model_time += now - leg.started;
    if (record.prefill === leg) record.prefill = null;
    if (record.answer === leg) record.answer = null;
    this.legs.promptComputed(leg, now);
    this.legs.close(leg);
    this.#freed(leg.entry);
  }

  /** D3: releases the decode slot, once. */
  #release(record: CallRecord): void {
    const { reservation, call } = record;
    if (reservation === null) return;
    record.reservation = null;
    this.#reservations -= 1;
    reservation.release();
    this.#tools.outbox.emit({ type: "release_decode", call_id: call.call_id, instance_id: reservation.entry.instance.instance_id });
    this.#freed(reservation.entry);
  }

  #freed(entry: InstanceEntry): void {
    this.#tools.queues.touch(entry.instance.model);
  }

  // ── time

  #onTimer(record: CallRecord, now: Micros): void {
    const late = now >= record.call.deadline;
    switch (record.state) {
      case "queued":
        this.shed(record, PAST_DEADLINE);
        return;
      case "resting":
        this.#rested(record);
        if (late) this.shed(record, PAST_DEADLINE);
        else this.#enqueue(record);
        return;
      case "aborting":
        for (const leg of [record.prefill, record.answer]) if (leg !== null) this.#legOver(leg, now);
        this.#settleWhenOver(record, now);
        return;
      case "prefilling":
      case "decoding":
      case "whole": {
        if (late) {
          this.#abort(record, { type: "failed", failure: PAST_DEADLINE }, "deadline_exceeded", now);
          return;
        }
        const slow = record.answer ?? record.prefill;
        const why = record.state === "decoding" ? LEASE_OVER : "the engine did not accept the leg in time";
        this.#abort(record, retry(why, slow?.entry ?? null), record.state === "decoding" ? "kv_lease" : "not_accepted", now);
        return;
      }
      case "ended":
    }
  }

  #reschedule(record: CallRecord): void {
    this.#tools.timers.set(record.timer, this.#dueAt(record));
  }

  #dueAt(record: CallRecord): Micros {
    if (record.state === "aborting") return record.cancel_by;
    if (record.state === "resting") return this.#noLaterThanDeadline(record, record.rest_until);
    const leg = record.answer ?? record.prefill;
    return leg?.state === "starting" ? leg.accept_by : record.call.deadline;
  }

  #noLaterThanDeadline(record: CallRecord, at: number): Micros {
    return Math.min(at, record.call.deadline) as Micros;
  }
}

type LegStart = {
  readonly record: CallRecord;
  readonly role: LegRole;
  readonly entry: InstanceEntry;
  readonly from: Leg | null;
  readonly fetched: PrefixFetch | null;
  readonly accept_by: Micros;
  readonly now: Micros;
};

const NO_TIME = 0 as Micros;
const LEASE_OVER = "decode did not accept the prefilled KV within its lease";
const PAST_DEADLINE = failure("deadline_exceeded");

const retry = (why: string, culprit: InstanceEntry | null): AfterAbort & { type: "retry" } => ({
  type: "retry",
  failure: failure("engine_failed", why),
  counts: true,
  culprit,
});

/**
 * An engine that refuses the request would refuse it again; everything else may go better elsewhere. An engine that could not be
 * reached never had the call: that is no attempt at it, and the call is queued as one is with nothing ready (D4). Such attempts
 * are bounded by the instance's rest and the call's deadline.
 */
function afterFailure(error: LegFailure, culprit: InstanceEntry): AfterAbort {
  if (error.cause === "rejected") return { type: "failed", failure: error.failure };
  const after = retry(error.failure.detail ?? `the engine failed (${error.cause})`, culprit);
  return error.cause === "connect" ? { ...after, counts: false, culprit: null } : after;
}
