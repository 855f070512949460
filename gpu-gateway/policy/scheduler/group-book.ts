/**
 * The instance groups:
 *
 *   launch decided ─▶ launching ─launched─▶ up ─stop decided─▶ stopping ─▶ gone
 *                        │ launch failed     │ lost                ▲
 *                        ▼                   ▼                     │ launch bound passed: it may still appear
 *                       gone                gone ──────────────────┘
 *   adopted at start ─────────────────────▶ up
 *
 * Elasticity says how many; this book sees that a launch follows a decision once (I7), that a group with a loading instance is
 * not stopped (I7), and that a pool whose launches fail is left alone for a while, longer each time. A group that is lost before
 * any of its instances was ready counts as a failed launch: a crash loop backs off too.
 * Elasticity is first asked when adoption is over (the first timer), so that what runs already is not launched again.
 */
import { deriveId, type GroupId } from "../../../schema/core/ids.ts";
import type { Micros } from "../../../schema/core/time.ts";
import type { Elasticity, GroupView } from "../policies.ts";
import type { Role } from "../vocabulary.ts";
import type { SchedulerLimits } from "./limits.ts";
import type { Outbox } from "./outbox.ts";
import type { Queues } from "./queues.ts";
import { Timer, type Timers } from "./timers.ts";

export type GroupEntry = {
  readonly group_id: GroupId;
  readonly model: string;
  readonly role: Role;
  state: GroupView["state"];
  /** The effect whose outcome is awaited. */
  effect_id: string | null;
  was_ready: boolean;
  readonly overdue: Timer;
};

/** A pool's failed launches in a row. Pools are bounded by elasticity's targets. */
type Backoff = { failures: number; waiting: boolean; readonly over: Timer };

type Tools = {
  readonly outbox: Outbox;
  readonly timers: Timers;
  readonly queues: Queues;
  readonly limits: SchedulerLimits;
  readonly elasticity: Elasticity;
  /** Makes group ids unique over cells and epochs. */
  readonly scope: string;
  /** A group's instances get no new legs. */
  readonly drain: (group_id: GroupId, now: Micros) => void;
  readonly has_loading_instance: (group_id: GroupId) => boolean;
  /** Nobody reported its end in time. */
  readonly given_up: (group_id: GroupId, now: Micros) => void;
};

export class GroupBook {
  readonly #tools: Tools;
  readonly #groups = new Map<GroupId, GroupEntry>();
  readonly #backoffs = new Map<string, Backoff>();
  readonly #period = new Timer(() => this.changed());
  #named = 0;
  #adoption_over = false;
  #plan_due = false;

  constructor(tools: Tools) {
    this.#tools = tools;
  }

  get(group_id: GroupId): GroupEntry | undefined {
    return this.#groups.get(group_id);
  }

  views(): readonly GroupView[] {
    return [...this.#groups.values()].map(({ group_id, model, role, state }) => ({ group_id, model, role, state }));
  }

  /** Elasticity is asked at the end of this event. */
  changed(): void {
    this.#plan_due = true;
  }

  adoptionOver(): void {
    if (this.#adoption_over) return;
    this.#adoption_over = true;
    this.#plan_due = true;
  }

  /** False when the group is being stopped: its instances are not wanted any more. */
  launched(group_id: GroupId, model: string, role: Role): boolean {
    const known = this.#groups.get(group_id);
    if (known === undefined) this.#add(group_id, model, role, "up", null);
    else if (known.state === "stopping") return false;
    else if (known.state === "launching") {
      known.state = "up";
      known.effect_id = null;
      this.#tools.timers.clear(known.overdue);
    }
    this.#plan_due = true;
    return true;
  }

  ready(group_id: GroupId): void {
    const group = this.#groups.get(group_id);
    if (group === undefined) return;
    group.was_ready = true;
    this.#forgetBackoff(poolOf(group));
    this.#plan_due = true;
  }

  launchFailed(effect_id: string, now: Micros): void {
    for (const group of this.#groups.values())
      if (group.state === "launching" && group.effect_id === effect_id) {
        this.#remove(group);
        this.#backOff(poolOf(group), now);
        return;
      }
  }

  /** Lost or stopped. */
  gone(group_id: GroupId, now: Micros): void {
    const group = this.#groups.get(group_id);
    if (group === undefined) return;
    this.#remove(group);
    if (group.state !== "stopping" && !group.was_ready) this.#backOff(poolOf(group), now);
  }

  /** At the end of an event: asks elasticity if anything it looks at has changed, or its period is over. */
  plan(now: Micros): void {
    if (!this.#plan_due || !this.#adoption_over) return;
    this.#plan_due = false;
    const { elasticity, queues, timers, limits } = this.#tools;
    for (const decision of elasticity.plan(this.views(), queues.views(now), now)) {
      if (decision.type === "launch") this.#launch(decision.model, decision.role, now);
      else this.#stop(decision.group_id, decision.drain, now);
    }
    timers.set(this.#period, (now + limits.elasticity_period) as Micros);
  }

  #launch(model: string, role: Role, now: Micros): void {
    if (this.#backoffs.get(poolOf({ model, role }))?.waiting === true) return;
    const { outbox, scope, timers, limits } = this.#tools;
    let group_id: GroupId;
    do {
      this.#named += 1;
      group_id = deriveId("group", scope, String(this.#named));
    } while (this.#groups.has(group_id));
    const effect_id = outbox.nextEffectId();
    const group = this.#add(group_id, model, role, "launching", effect_id);
    timers.set(group.overdue, (now + limits.launch_bound) as Micros);
    outbox.emit({ type: "launch_group", effect_id, group_id, model, role });
  }

  #stop(group_id: GroupId, drain: boolean, now: Micros): void {
    const { outbox, timers, limits } = this.#tools;
    const group = this.#groups.get(group_id);
    if (group === undefined || group.state !== "up" || this.#tools.has_loading_instance(group_id)) return;
    group.state = "stopping";
    group.effect_id = outbox.nextEffectId();
    timers.set(group.overdue, (now + limits.stop_bound) as Micros);
    outbox.emit({ type: "stop_group", effect_id: group.effect_id, group_id, drain });
    this.#tools.drain(group_id, now);
  }

  #overdue(group: GroupEntry, now: Micros): void {
    const { outbox, timers, limits, given_up } = this.#tools;
    if (group.state === "stopping") {
      given_up(group.group_id, now);
      return;
    }
    group.state = "stopping";
    group.effect_id = outbox.nextEffectId();
    timers.set(group.overdue, (now + limits.stop_bound) as Micros);
    outbox.emit({ type: "stop_group", effect_id: group.effect_id, group_id: group.group_id, drain: false });
    this.#backOff(poolOf(group), now);
  }

  #add(group_id: GroupId, model: string, role: Role, state: GroupView["state"], effect_id: string | null): GroupEntry {
    const group: GroupEntry = {
      group_id,
      model,
      role,
      state,
      effect_id,
      was_ready: false,
      overdue: new Timer((now) => this.#overdue(group, now)),
    };
    this.#groups.set(group_id, group);
    return group;
  }

  #remove(group: GroupEntry): void {
    this.#tools.timers.clear(group.overdue);
    this.#groups.delete(group.group_id);
    this.#plan_due = true;
  }

  #backOff(pool: string, now: Micros): void {
    const { timers, limits } = this.#tools;
    let backoff = this.#backoffs.get(pool);
    if (backoff === undefined) {
      const over = new Timer(() => {
        const ended = this.#backoffs.get(pool);
        if (ended !== undefined) ended.waiting = false;
        this.#plan_due = true;
      });
      backoff = { failures: 0, waiting: false, over };
      this.#backoffs.set(pool, backoff);
    }
    backoff.failures += 1;
    backoff.waiting = true;
    const wait = Math.min(limits.launch_backoff_max, limits.launch_backoff_first * 2 ** (backoff.failures - 1));
    timers.set(backoff.over, (now + wait) as Micros);
    this.#plan_due = true;
  }

  #forgetBackoff(pool: string): void {
    const backoff = this.#backoffs.get(pool);
    if (backoff === undefined) return;
    this.#tools.timers.clear(backoff.over);
    this.#backoffs.delete(pool);
  }
}

const poolOf = ({ model, role }: { readonly model: string; readonly role: Role }): string => `${role} ${model}`;
