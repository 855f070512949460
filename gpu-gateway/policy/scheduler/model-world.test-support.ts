/**
 * A world that the scheduler drives, for property tests: engines, clients and a provider that do whatever they are told to,
 * late, badly, or not at all. It keeps books of its own, from effects alone, and throws when the scheduler breaks its word.
 * Every choice is an argument, so that a failing case can be shrunk and repeated.
 */
import { asId, type CallId, type GroupId, type InstanceId, type LegId } from "../../../schema/core/ids.ts";
import { type Micros, micros, microsFromMs } from "../../../schema/core/time.ts";
import type { Effect } from "../effects.ts";
import type { SchedulerEvent } from "../events.ts";
import { createScheduler, type Scheduler, type SchedulerConfig } from "../scheduler.ts";
import type { Instance, InstanceState, LegFailure, Prefix, Role } from "../vocabulary.ts";
import { makeCall, makeInstance, MODEL } from "./testing.ts";

export type Step = { readonly action: number; readonly which: number; readonly value: number };
export type Setup = {
  readonly targets: readonly { role: Role; groups: number }[];
  readonly slots: number;
  readonly nodes: number;
  /** Calls are placed while there is a slot, room for their KV or not. */
  readonly at_once?: boolean;
};

type StartLeg = Extract<Effect, { type: "start_leg" }>;
type WorldLeg = {
  readonly start: StartLeg;
  state: "starting" | "running" | "cancelled" | "holding" | "over";
  finished_at: Micros | null;
  tokens: number;
};
type WorldCall = { reserved: InstanceId | null; attempt: number; reported_tokens: number };
type WorldGroup = { readonly role: Role; state: "launching" | "up" | "stopping"; instances: InstanceId[]; effect_id: string };

const STATES: readonly InstanceState[] = ["ready", "ready", "ready", "draining", "lost", "sleeping", "loading"];
const CAUSES: readonly LegFailure["cause"][] = ["connect", "status", "stream_cut", "kv_lost", "rejected", "timeout"];

const check = (holds: boolean, what: string): void => {
  if (!holds) throw new Error(what);
};

export class ModelWorld {
  readonly log: { readonly event: SchedulerEvent; readonly now: Micros; readonly effects: readonly Effect[] }[] = [];
  readonly scheduler: Scheduler;
  readonly ended = new Map<CallId, Effect>();
  readonly #config: SchedulerConfig;
  readonly #setup: Setup;
  readonly #calls = new Map<CallId, WorldCall>();
  readonly #legs = new Map<LegId, WorldLeg>();
  readonly #instances = new Map<InstanceId, { readonly instance: Instance; state: InstanceState }>();
  readonly #groups = new Map<GroupId, WorldGroup>();
  /** Instances that could not be reached, and until when they rest. */
  readonly #resting = new Map<InstanceId, Micros>();
  #now: Micros = micros(0);
  #wake: Micros | null = null;
  #named = 0;

  constructor(config: SchedulerConfig, setup: Setup) {
    this.#config = config;
    this.#setup = setup;
    this.scheduler = createScheduler(config);
    this.#send({ type: "timer" });
  }

  step({ action, which, value }: Step): void {
    this.#now = micros(this.#now + (value % 7) * 1_000);
    if (this.#wake !== null && this.#now >= this.#wake && value % 3 !== 0) this.#send({ type: "timer" });
    const legs = [...this.#legs.values()].filter(({ state }) => state !== "over");
    const leg = pick(legs, which);
    switch (action % 18) {
      case 0:
      case 1:
      case 2:
        this.#arrive(which, value);
        break;
      case 3: {
        const call_id = pick([...this.#calls.keys(), ...this.ended.keys()], which);
        if (call_id === undefined) break;
        const live = this.#calls.has(call_id);
        if (live && value % 2 === 0) this.#send({ type: "call_arrived", call: makeCall(call_id) });
        else this.#send({ type: "call_cancelled", call_id, reason: "client_gone" });
        break;
      }
      case 7:
        if (leg !== undefined) this.#fail(leg, value);
        break;
      case 8:
        if (leg?.state === "cancelled") this.#end(leg, { type: "leg_cancelled", leg_id: leg.start.leg_id, tokens: leg.tokens });
        break;
      case 9: {
        // Something said of a leg that is over.
        const over = pick(
          [...this.#legs.values()].filter(({ state }) => state === "over"),
          which,
        );
        if (over !== undefined) this.#send({ type: value % 2 === 0 ? "leg_accepted" : "kv_released", leg_id: over.start.leg_id });
        break;
      }
      case 10: {
        const known = pick([...this.#instances.values()], which);
        const state = pick(STATES, value);
        if (known === undefined || state === undefined) break;
        this.#enter(known, state);
        break;
      }
      case 11:
        this.#provide(which, value);
        break;
      case 12:
        // Mostly a moment; sometimes long enough for leases and deadlines to run out unseen.
        this.#now = micros(this.#now + (value % 4 === 0 ? (value % 40) * 1_000_000 : 200_000));
        break;
      case 13:
        if (this.#wake !== null) this.#wakeUp();
        break;
      default:
        if (leg !== undefined) this.#advance(leg, value);
    }
  }

  /** Time passes and nothing else happens: every call must end by itself, and nothing be left of it. */
  quiesce(): void {
    for (let n = 0; n < 5_000; n++) {
      const { calls, holding, legs, reservations } = this.scheduler.snapshot();
      if (calls === 0 && holding === 0 && legs === 0 && reservations === 0) break;
      check(this.#wake !== null, "something is live and nobody will be woken");
      this.#wakeUp();
    }
    check(this.#calls.size === 0, `calls never ended: ${[...this.#calls.keys()].join(" ")}`);
    const snapshot = this.scheduler.snapshot();
    check(snapshot.calls === 0 && snapshot.queues.length === 0 && snapshot.legs === 0, "calls leaked");
    check(snapshot.holding === 0 && snapshot.reservations === 0, "KV or reservations leaked");
    for (const { instance_id, legs, reserved, deferred_pulls, prefill_tokens, kv_tokens } of snapshot.instances)
      check(legs + reserved + deferred_pulls + prefill_tokens + kv_tokens === 0, `books of ${instance_id} leaked`);
  }

  // ── what the world does

  #arrive(which: number, value: number): void {
    this.#named += 1;
    const call = makeCall(`c${this.#named}`, {
      arrived: this.#now,
      deadline: this.#now + microsFromMs((value % 90) * 1_000 - 1_000),
      prompt_tokens: 1 + ((which * 37) % 900),
      max_tokens: 1 + (value % 300),
      splittable: which % 5 !== 0,
      tenant: asId<"tenant">(`ten_${which % 3}`),
      program: asId<"program">(`prg_${value % 4}`),
      ...(which % 4 === 0 ? {} : { prefix: prefixOf((which * 37) % 900, value % 3) }),
    });
    this.#calls.set(call.call_id, { reserved: null, attempt: 0, reported_tokens: 0 });
    this.#send({ type: "call_arrived", call });
  }

  #advance(leg: WorldLeg, value: number): void {
    const { leg_id, role } = leg.start;
    if (leg.state === "holding") this.#end(leg, { type: "kv_released", leg_id });
    else if (leg.state === "starting" && value % 4 !== 0) {
      leg.state = "running";
      this.#send({ type: "leg_accepted", leg_id });
    } else if (role !== "prefill" && leg.state !== "cancelled" && value % 3 === 0) {
      leg.tokens += 1 + (value % 5);
      if (leg.state === "starting") leg.state = "running";
      this.#reported(leg);
      this.#send(leg.tokens < 4 ? { type: "leg_first_token", leg_id } : { type: "leg_progress", leg_id, tokens: leg.tokens });
    } else {
      const usage = { prompt_tokens: 10, cached_tokens: 0, completion_tokens: role === "prefill" ? 1 : leg.tokens };
      leg.finished_at = this.#now;
      // The world believes that it holds the KV even if the scheduler had cancelled it: a late release must do no harm.
      leg.state = role === "prefill" && leg.state !== "cancelled" ? "holding" : "over";
      this.#send({ type: "leg_finished", leg_id, usage, finish_reason: "stop" });
    }
  }

  #fail(leg: WorldLeg, value: number): void {
    const cause = pick(CAUSES, value) ?? "connect";
    this.#reported(leg);
    const error = { cause, failure: { code: "engine_failed", detail: cause } } as const;
    const current = leg.state === "starting" || leg.state === "running";
    this.#end(leg, { type: "leg_failed", leg_id: leg.start.leg_id, error, tokens: leg.tokens });
    // Unless its deadline came first: then it was cancelled, and what it says counts for nothing.
    const cancelled = this.log.at(-1)?.effects.some((effect) => effect.type === "cancel_leg" && effect.leg_id === leg.start.leg_id);
    if (cause === "connect" && current && cancelled === false)
      this.#resting.set(leg.start.instance_id, micros(this.#now + this.#config.limits.unreachable_rest));
  }

  #end(leg: WorldLeg, event: SchedulerEvent): void {
    leg.state = "over";
    this.#send(event);
  }

  #reported(leg: WorldLeg): void {
    const call = this.#calls.get(leg.start.call_id);
    if (call !== undefined && leg.start.role !== "prefill") call.reported_tokens = Math.max(call.reported_tokens, leg.tokens);
  }

  #enter(known: { readonly instance: Instance; state: InstanceState }, state: InstanceState): void {
    known.state = state;
    if (state === "ready") this.#resting.delete(known.instance.instance_id);
    this.#send({ type: "instance_state", instance_id: known.instance.instance_id, state });
  }

  /** The provider: launches come up or fail, groups stop or are lost. */
  #provide(which: number, value: number): void {
    const chosen = pick([...this.#groups], which);
    if (chosen === undefined) return;
    const [group_id, group] = chosen;
    if (group.state === "launching") {
      if (value % 4 === 0) {
        this.#groups.delete(group_id);
        this.#send({ type: "launch_failed", effect_id: group.effect_id, reason: "no GPU" });
        return;
      }
      this.#named += 1;
      const instance = makeInstance(`i${this.#named}`, group.role, {
        group: group_id,
        node: `node_${which % this.#setup.nodes}`,
        slots: this.#setup.slots,
        kv_tokens: 2_000,
        prefill_tokens_max: 1_000,
        context_tokens: 1_100,
      });
      group.state = "up";
      group.instances.push(instance.instance_id);
      const known = { instance, state: "loading" as InstanceState };
      this.#instances.set(instance.instance_id, known);
      this.#send({ type: "group_launched", group_id, instances: [instance] });
      this.#enter(known, "ready");
      return;
    }
    if (value % 5 !== 0 && group.state !== "stopping") return;
    for (const id of group.instances) this.#instances.delete(id);
    this.#groups.delete(group_id);
    this.#send(group.state === "stopping" ? { type: "group_stopped", group_id } : { type: "group_lost", group_id, reason: "died" });
  }

  #wakeUp(): void {
    if (this.#wake !== null) this.#now = micros(Math.max(this.#now, this.#wake));
    this.#send({ type: "timer" });
  }

  // ── what the world holds the scheduler to

  #send(event: SchedulerEvent): void {
    if (event.type === "timer") this.#wake = null;
    const effects = this.scheduler.handle(event, this.#now);
    this.log.push({ event, now: this.#now, effects });
    for (const effect of effects) this.#check(effect);
    const { limits } = this.#config;
    for (const instance of this.scheduler.snapshot().instances) {
      const { instance_id, legs, reserved, slots, kv_tokens, kv_tokens_max, deferred_pulls } = instance;
      check(legs >= 0 && reserved >= 0 && deferred_pulls >= 0 && instance.prefill_tokens >= 0, `${instance_id} has negative books`);
      check(legs + reserved <= slots, `${instance_id} exceeds its slots`);
      check(kv_tokens >= 0 && (this.#setup.at_once === true || kv_tokens <= kv_tokens_max), `${instance_id} exceeds its KV`);
      check(deferred_pulls <= limits.deferred_pulls_max, `${instance_id} has too many deferred pulls`);
    }
  }

  #check(effect: Effect): void {
    if ("call_id" in effect) check(this.#calls.has(effect.call_id), `${effect.type} for ${effect.call_id} after its end (I2)`);
    switch (effect.type) {
      case "reserve_decode": {
        const call = this.#call(effect.call_id);
        check(call.reserved === null, "reserved twice (D3)");
        call.reserved = effect.instance_id;
        return;
      }
      case "release_decode": {
        const call = this.#call(effect.call_id);
        check(call.reserved === effect.instance_id, "released what was not reserved (D3)");
        call.reserved = null;
        return;
      }
      case "start_leg":
        this.#checkStart(effect);
        return;
      case "cancel_leg": {
        const leg = this.#legs.get(effect.leg_id);
        check(leg !== undefined, "cancelled a leg that was never started");
        if (leg !== undefined && leg.state !== "over") leg.state = "cancelled";
        return;
      }
      case "reject":
      case "end_call":
        check(this.#call(effect.call_id).reserved === null, "ended with a reservation (D3)");
        this.#calls.delete(effect.call_id);
        this.ended.set(effect.call_id, effect);
        return;
      case "progress":
        check(effect.position >= 1, "a place below 1");
        return;
      case "launch_group":
        this.#checkLaunch(effect);
        return;
      case "stop_group": {
        const group = this.#groups.get(effect.group_id);
        if (group !== undefined) group.state = "stopping";
        return;
      }
      case "wake_at":
        this.#wake = micros(Math.min(this.#wake ?? effect.at, effect.at));
    }
  }

  #checkStart(start: StartLeg): void {
    const { leg_id, call_id, role, instance_id, from_leg, accept_by } = start;
    const call = this.#call(call_id);
    check(!this.#legs.has(leg_id), "a leg id was used twice");
    const known = this.#instances.get(instance_id);
    check(known?.state === "ready", `a leg was started on an instance that is ${known?.state ?? "gone"}`);
    // A decode leg goes where its slot was reserved before: its prompt is computed, and the instance may be back.
    if (role !== "decode")
      check((this.#resting.get(instance_id) ?? 0) <= this.#now, "a leg was started on an instance that could not just be reached");
    check(accept_by > this.#now, "a leg that nobody could accept in time");
    check(start.attempt === 0 || call.reported_tokens === 0, "tried again after a token (D4)");
    if (role === "prefill") check(call.reserved !== null, "prefill before a decode slot was reserved (D3)");
    if (role === "decode") {
      const prefill = this.#legs.get(from_leg?.leg_id ?? asId<"leg">("none"));
      check(prefill?.start.call_id === call_id && prefill.start.attempt === start.attempt, "decode takes another call's prefill");
      check(call.reserved === instance_id, "decode where nothing was reserved (D3)");
      const lease_end = (prefill?.finished_at ?? 0) + makeInstance("x", "prefill").kv_lease;
      check(accept_by <= lease_end - this.#config.limits.kv_lease_margin, "decode may be accepted after the lease (I3)");
    }
    this.#legs.set(leg_id, { start, state: "starting", finished_at: null, tokens: 0 });
    call.attempt = start.attempt;
  }

  #checkLaunch({ group_id, role, effect_id, model }: Extract<Effect, { type: "launch_group" }>): void {
    check(model === MODEL && !this.#groups.has(group_id), "a group was launched twice");
    const there = [...this.#groups.values()].filter((group) => group.role === role && group.state !== "stopping").length;
    const target = this.#setup.targets.find((one) => one.role === role)?.groups ?? 0;
    check(there < target, "more groups than the target (I7)");
    this.#groups.set(group_id, { role, state: "launching", instances: [], effect_id });
  }

  #call(call_id: CallId): WorldCall {
    const call = this.#calls.get(call_id);
    if (call === undefined) throw new Error(`${call_id} is not live (I2)`);
    return call;
  }
}

/** Prompts that begin alike for a while, then part. */
function prefixOf(tokens: number, family: number): Prefix {
  const blocks = Array.from({ length: Math.floor(tokens / 16) }, (_, n) => family * 1_000 + (n < 8 ? n : n * 7 + tokens));
  return { block_tokens: 16, blocks };
}

function pick<T>(from: readonly T[], which: number): T | undefined {
  return from.length === 0 ? undefined : from[which % from.length];
}
