/**
 * The legs, and the only place that changes their state:
 *
 *   starting ─accepted─▶ running ─end─▶ gone
 *      │                    │  └─ a prefill leg of two ─▶ holding ─pulled | released | lease over─▶ gone
 *      └──────cancel────────┴─▶ cancelling ─end, or the cancel bound─▶ gone
 *
 * A holding leg uses no slot: the engine is done with it, but its KV stays until decode has pulled it. It outlives its call if
 * it must; then its timer ends it. Legs live are bounded by the instances' slots, holding ones by their KV.
 */
import type { LegId } from "../../../schema/core/ids.ts";
import type { Micros } from "../../../schema/core/time.ts";
import type { LegRole } from "../vocabulary.ts";
import type { CallRecord } from "./call-record.ts";
import type { InstanceEntry } from "./instance-book.ts";
import { Timer } from "./timers.ts";

export class Leg {
  readonly leg_id: LegId;
  readonly record: CallRecord;
  readonly role: LegRole;
  readonly entry: InstanceEntry;
  readonly started: Micros;
  readonly accept_by: Micros;
  /** Its own; a decode leg's KV is counted by its reservation. */
  readonly kv_tokens: number;
  prefill_tokens: number;
  /** Of its prompt, expected to be cached. */
  readonly hit_tokens: number;
  /** Predicted, alone on its instance; 0: nothing was. */
  prefill_work: Micros;
  /** When its first token came, so that its decoding can be timed. */
  first_token: Micros | null = null;
  state: "starting" | "running" | "cancelling" | "holding" | "gone" = "starting";
  /** Ends a holding leg that nobody reports released. Set while it holds. */
  lease_end: Timer | null = null;

  constructor(init: LegInit) {
    this.leg_id = init.leg_id;
    this.record = init.record;
    this.role = init.role;
    this.entry = init.entry;
    this.started = init.started;
    this.accept_by = init.accept_by;
    this.kv_tokens = init.kv_tokens;
    this.prefill_tokens = init.prefill_tokens;
    this.hit_tokens = init.hit_tokens;
    this.prefill_work = init.prefill_work;
  }
}

export type LegInit = Pick<
  Leg,
  "leg_id" | "record" | "role" | "entry" | "started" | "accept_by" | "kv_tokens" | "prefill_tokens" | "hit_tokens" | "prefill_work"
>;

export class LegBook {
  readonly #legs = new Map<LegId, Leg>();
  #holding = 0;

  get(id: LegId): Leg | undefined {
    return this.#legs.get(id);
  }

  /** In flight, and holding. */
  get counts(): { readonly active: number; readonly holding: number } {
    return { active: this.#legs.size - this.#holding, holding: this.#holding };
  }

  open(init: LegInit): Leg {
    const leg = new Leg(init);
    this.#legs.set(leg.leg_id, leg);
    leg.entry.legs_here.add(leg);
    leg.entry.legs += 1;
    leg.entry.kv_tokens += leg.kv_tokens;
    leg.entry.prefill_tokens += leg.prefill_tokens;
    if (leg.prefill_work > 0) {
      const { entry, started } = leg;
      entry.prefill_work += leg.prefill_work;
      entry.prefill_due = (Math.max(entry.prefill_due, started) + leg.prefill_work) as Micros;
    }
    return leg;
  }

  accept(leg: Leg): void {
    if (leg.state === "starting") leg.state = "running";
  }

  /** Its first token, or its end: no more of the prompt will be computed. What is left there starts from now. */
  promptComputed(leg: Leg, now: Micros): void {
    const { entry } = leg;
    entry.prefill_tokens -= leg.prefill_tokens;
    leg.prefill_tokens = 0;
    if (leg.prefill_work === 0) return;
    entry.prefill_work -= leg.prefill_work;
    leg.prefill_work = 0 as Micros;
    entry.prefill_done = now;
    entry.prefill_due = (now + entry.prefill_work) as Micros;
  }

  cancelling(leg: Leg): void {
    leg.state = "cancelling";
  }

  /** Returns the timer that ends it. */
  hold(leg: Leg, on_lease_end: (leg: Leg, now: Micros) => void, now: Micros): Timer {
    this.promptComputed(leg, now);
    leg.entry.legs -= 1;
    leg.state = "holding";
    this.#holding += 1;
    leg.lease_end = new Timer((now) => on_lease_end(leg, now));
    return leg.lease_end;
  }

  /** Its prompt has been computed, or given up, before. */
  close(leg: Leg): void {
    if (leg.state === "gone") return;
    if (leg.state === "holding") this.#holding -= 1;
    else leg.entry.legs -= 1;
    leg.entry.kv_tokens -= leg.kv_tokens;
    leg.entry.legs_here.delete(leg);
    leg.state = "gone";
    this.#legs.delete(leg.leg_id);
  }
}
