/**
 * The scheduler: `handle(event, now) → effects`. Pure: time comes in, decisions go out, and the same events at the same times
 * give the same effects, byte for byte (D1, I9). Six policies answer the questions of policies.ts; the machinery in scheduler/
 * keeps what must be true whatever they answer.
 *
 * Each event is handled in this order:
 *  0. a call whose id is live is the same call sent again: the server attaches to it, the scheduler does nothing;
 *  1. what came due by `now` (deadlines, leases, bounds), even if the timer that should say so is late;
 *  2. the event itself;
 *  3. queues that something was freed for: their heads are placed until one must wait;
 *  4. elasticity, if groups or queues changed;
 *  5. queued clients hear their places; the next instant to be woken at.
 *
 * What the runtime owes it: `now` never goes back; calls with an id that has ended are not sent again; the groups that already
 * run come as `group_launched` (and `instance_state`) before the first `timer`, and one `timer` is sent when that is done;
 * `leg_first_token` is reported before the token is sent on, and nothing of a leg is sent on after its `cancel_leg`: a call is
 * tried again only because its client has seen nothing.
 */
import type { Micros } from "../../schema/core/time.ts";
import type { Effect } from "./effects.ts";
import type { SchedulerEvent } from "./events.ts";
import type { Admission, CacheManagement, CostAllocation, Elasticity, Ordering, Routing, TimeEstimates } from "./policies.ts";
import { CallLife } from "./scheduler/call-life.ts";
import type { CallRecord } from "./scheduler/call-record.ts";
import { GroupBook } from "./scheduler/group-book.ts";
import { InstanceBook, type InstanceEntry } from "./scheduler/instance-book.ts";
import { checkLimits, type SchedulerLimits } from "./scheduler/limits.ts";
import { Outbox } from "./scheduler/outbox.ts";
import { place, replaceable } from "./scheduler/placing.ts";
import { Queues } from "./scheduler/queues.ts";
import { instanceSnapshot, poolSnapshots, type SchedulerSnapshot } from "./scheduler/snapshot.ts";
import { Timers } from "./scheduler/timers.ts";
import type { Call, Instance, InstanceState } from "./vocabulary.ts";

export type { SchedulerLimits } from "./scheduler/limits.ts";
export type { SchedulerSnapshot } from "./scheduler/snapshot.ts";

export type SchedulerConfig = {
  /** Cell and epoch, say: makes the ids of launched groups unique wherever and whenever else groups are launched. */
  readonly scope: string;
  readonly admission: Admission;
  readonly ordering: Ordering;
  readonly routing: Routing;
  readonly cache: CacheManagement;
  readonly elasticity: Elasticity;
  readonly allocation: CostAllocation;
  /** Absent: nothing is estimated, and `prefill_due` of every view stays 0. */
  readonly estimates?: TimeEstimates;
  readonly limits: SchedulerLimits;
};

export interface Scheduler {
  handle(event: SchedulerEvent, now: Micros): readonly Effect[];
  snapshot(): SchedulerSnapshot;
}

export function createScheduler(config: SchedulerConfig): Scheduler {
  checkLimits(config.limits);
  return new PolicyScheduler(config);
}

class PolicyScheduler implements Scheduler {
  readonly #config: SchedulerConfig;
  readonly #outbox = new Outbox();
  readonly #timers = new Timers();
  readonly #instances = new InstanceBook();
  readonly #queues: Queues;
  readonly #calls: CallLife;
  readonly #groups: GroupBook;
  /** The earliest wake_at that no timer event has answered. */
  #wake: Micros | null = null;

  constructor(config: SchedulerConfig) {
    const { ordering, limits, cache, allocation, elasticity, scope, estimates } = config;
    this.#config = config;
    this.#queues = new Queues(ordering, this.#outbox);
    const shared = { outbox: this.#outbox, timers: this.#timers, queues: this.#queues, limits };
    this.#calls = new CallLife({
      ...shared,
      cache,
      ordering,
      allocation,
      estimates: estimates ?? null,
      unreachable: (entry, now) => this.#unreachable(entry, now),
      replaceable: (entry) => replaceable(entry, this.#instances.ofModel(entry.instance.model)),
    });
    this.#groups = new GroupBook({
      ...shared,
      elasticity,
      scope,
      drain: (group_id, now) => {
        for (const entry of this.#instances.ofGroup(group_id)) this.#enter(entry, "draining", now);
      },
      has_loading_instance: (group_id) => this.#instances.ofGroup(group_id).some((entry) => entry.state === "loading"),
      given_up: (group_id, now) => this.#groupGone(group_id, now),
    });
  }

  handle(event: SchedulerEvent, now: Micros): readonly Effect[] {
    // Before anything ends: a call that is sent again just as its deadline passes is still the same call (I2).
    const repeated = event.type === "call_arrived" && this.#calls.has(event.call.call_id);
    for (let due = this.#timers.due(now); due !== null; due = this.#timers.due(now)) due.fire(now);
    const arrived = event.type === "call_arrived" && !repeated ? this.#arrive(event.call, now) : null;
    if (event.type !== "call_arrived") this.#apply(event, now);
    for (const model of this.#queues.takeTouched()) this.#serve(model, now);
    if (this.#queues.takeBacklogged()) this.#groups.changed();
    this.#groups.plan(now);
    // Stopping a group moves calls back into queues.
    for (const model of this.#queues.takeTouched()) this.#serve(model, now);
    this.#queues.tellMoved();
    if (arrived?.state === "queued") this.#queues.tellPlaceOf(arrived);
    this.#askToBeWoken();
    return this.#outbox.take();
  }

  snapshot(): SchedulerSnapshot {
    const entries = [...this.#instances.all()].sort((a, b) => (a.instance.instance_id < b.instance.instance_id ? -1 : 1));
    const { active, holding } = this.#calls.legs.counts;
    return {
      calls: this.#calls.live,
      queues: this.#queues.views(0 as Micros).map(({ model, queued }) => ({ model, queued })),
      legs: active,
      holding,
      reservations: this.#calls.reservations,
      pools: poolSnapshots(entries),
      instances: entries.map(instanceSnapshot),
      groups: this.#groups.views(),
      wake_at: this.#wake,
    };
  }

  #apply(event: Exclude<SchedulerEvent, { type: "call_arrived" }>, now: Micros): void {
    switch (event.type) {
      case "call_cancelled":
        this.#calls.cancel(event.call_id, event.reason, now);
        return;
      case "leg_accepted":
      case "leg_first_token":
      case "leg_progress":
      case "leg_finished":
      case "leg_failed":
      case "leg_cancelled":
      case "kv_released":
        this.#applyToLeg(event, now);
        return;
      case "group_launched":
        this.#groupLaunched(event.group_id, event.instances);
        return;
      case "instance_state": {
        const entry = this.#instances.get(event.instance_id);
        if (entry !== undefined) this.#enter(entry, event.state, now);
        return;
      }
      case "instance_sampled": {
        const entry = this.#instances.get(event.instance_id);
        if (entry === undefined) return;
        entry.sample = { running: event.running, waiting: event.waiting, kv_usage_ppm: event.kv_usage_ppm };
        this.#reachable(entry);
        return;
      }
      case "group_lost":
      case "group_stopped":
        this.#groupGone(event.group_id, now);
        return;
      case "launch_failed":
        this.#groups.launchFailed(event.effect_id, now);
        return;
      case "timer":
        this.#wake = null;
        this.#groups.adoptionOver();
    }
  }

  /** Returns the call if it was taken. */
  #arrive(call: Call, now: Micros): CallRecord | null {
    // Those that rest after a failure come back to the queue: uncounted, a row of failures would carry it past its bound (I8).
    const queue = { model: call.model, queued: this.#queues.size(call.model) + this.#calls.resting(call.model), now };
    const decision = this.#config.admission.admit(call, queue, this.#instances.ofModel(call.model));
    if (decision.type === "queue") return this.#calls.arrive(call);
    const { failure, retry_after_ms } = decision;
    this.#outbox.emit({ type: "reject", call_id: call.call_id, failure, retry_after_ms });
    return null;
  }

  /** A leg that is not known is over: what is said of it came too late to matter. */
  #applyToLeg(event: SchedulerEvent & { type: `leg_${string}` | "kv_released" }, now: Micros): void {
    const leg = this.#calls.legs.get(event.leg_id);
    if (leg === undefined) return;
    switch (event.type) {
      case "leg_accepted":
        this.#calls.accepted(leg);
        return;
      case "leg_first_token":
        this.#calls.progressed(leg, 1, now);
        return;
      case "leg_progress":
        this.#calls.progressed(leg, event.tokens, now);
        return;
      case "leg_finished":
        this.#calls.finished(leg, event.usage, event.finish_reason, now);
        return;
      case "leg_failed":
        this.#calls.failed(leg, event.error, event.tokens, now);
        return;
      case "leg_cancelled":
        this.#calls.cancelled(leg, event.tokens, now);
        return;
      case "kv_released":
        this.#calls.kvReleased(leg);
    }
  }

  /** Places heads of the queue until one must wait: a call that does not fit is not overtaken, so that none starves. */
  #serve(model: string, now: Micros): void {
    const { routing, limits } = this.#config;
    for (let head = this.#queues.first(model); head !== undefined; head = this.#queues.first(model)) {
      const placement = place(head, this.#instances, routing, limits, now);
      switch (placement.type) {
        case "wait":
          return;
        case "impossible":
          this.#calls.shed(head, placement.failure);
          break;
        case "whole":
          this.#calls.startWhole(head, placement.entry, placement.fetched, now);
          break;
        case "two":
          this.#calls.startTwo(head, placement, now);
      }
    }
  }

  #groupLaunched(group_id: Instance["group_id"], instances: readonly Instance[]): void {
    const [first] = instances;
    const known = this.#groups.get(group_id);
    const model = known?.model ?? first?.model;
    const role = known?.role ?? first?.role;
    // A group that nobody asked for and that has nothing in it is of no use.
    if (model === undefined || role === undefined || !this.#groups.launched(group_id, model, role)) return;
    for (const instance of instances) {
      this.#instances.add(instance, (entry) => this.#reachable(entry));
      this.#queues.touch(instance.model);
    }
  }

  #enter(entry: InstanceEntry, state: InstanceState, now: Micros): void {
    const { instance_id, group_id, model } = entry.instance;
    // Its group is being stopped: whatever the engine says of itself, it gets no new legs.
    const stopping = this.#groups.get(group_id)?.state === "stopping";
    entry.state = stopping && state !== "lost" ? "draining" : state;
    if (entry.state === "ready") {
      this.#reachable(entry);
      this.#groups.ready(group_id);
      this.#queues.touch(model);
    } else if (entry.state === "lost") {
      this.#config.cache.lost(instance_id);
      this.#calls.instanceLost(entry, now);
    } else this.#calls.displaceReserved(entry, now);
  }

  #unreachable(entry: InstanceEntry, now: Micros): void {
    // One that has been removed would be forgotten with its timer still set.
    if (this.#instances.get(entry.instance.instance_id) !== entry) return;
    entry.unreachable = true;
    this.#timers.set(entry.rest_over, (now + this.#config.limits.unreachable_rest) as Micros);
  }

  /** Its rest is over, or it has answered. */
  #reachable(entry: InstanceEntry): void {
    if (!entry.unreachable) return;
    entry.unreachable = false;
    this.#timers.clear(entry.rest_over);
    this.#queues.touch(entry.instance.model);
  }

  #groupGone(group_id: Instance["group_id"], now: Micros): void {
    for (const entry of this.#instances.ofGroup(group_id)) {
      this.#enter(entry, "lost", now);
      this.#timers.clear(entry.rest_over);
      this.#instances.remove(entry);
    }
    this.#groups.gone(group_id, now);
  }

  /**
   * Only an earlier instant than the one already asked for is worth an effect. Every timer event answers all that were asked for,
   * so after it the earliest is named again: a runtime that keeps one pending instant, the least, misses none.
   */
  #askToBeWoken(): void {
    const earliest = this.#timers.earliest();
    if (earliest === null || (this.#wake !== null && this.#wake <= earliest)) return;
    this.#wake = earliest;
    this.#outbox.emit({ type: "wake_at", at: earliest });
  }
}
