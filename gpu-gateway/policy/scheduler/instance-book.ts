/**
 * What the scheduler knows of each instance by its own books: state, and what runs, is reserved and is held there. An entry
 * is what policies see (InstanceView); only this file and the leg book write its counts.
 *
 *  - A reservation is a decode slot and its KV, kept from before the call's prefill starts until its decode leg has ended
 *    (D3). While it has no leg it counts as `reserved`; from then on the leg counts. Its KV counts throughout.
 *  - Until decode has pulled the KV it also counts as a deferred pull.
 */
import type { GroupId, InstanceId } from "../../../schema/core/ids.ts";
import type { Micros } from "../../../schema/core/time.ts";
import type { InstanceView } from "../policies.ts";
import type { Instance, InstanceState } from "../vocabulary.ts";
import type { CallRecord } from "./call-record.ts";
import type { Leg } from "./leg-book.ts";
import { Timer } from "./timers.ts";

export type EngineSample = { readonly running: number; readonly waiting: number; readonly kv_usage_ppm: number };

export class InstanceEntry implements InstanceView {
  readonly instance: Instance;
  state: InstanceState = "loading";
  unreachable = false;
  /** Ends `unreachable`, if nothing ends it before. */
  readonly rest_over: Timer;
  legs = 0;
  reserved = 0;
  prefill_tokens = 0;
  prefill_due: Micros = 0 as Micros;
  /** Predicted time of the prefills in flight, as if one after the other; and when the last of them was done. */
  prefill_work = 0;
  prefill_done: Micros = 0 as Micros;
  kv_tokens = 0;
  deferred_pulls = 0;
  sample: EngineSample | null = null;
  readonly legs_here = new Set<Leg>();
  readonly reservations = new Set<Reservation>();

  constructor(instance: Instance, on_rest_over: (entry: InstanceEntry) => void) {
    this.instance = instance;
    this.rest_over = new Timer(() => on_rest_over(this));
  }

  /** May be given a leg at all. */
  get ready(): boolean {
    return this.state === "ready" && !this.unreachable;
  }
}

export class Reservation {
  readonly entry: InstanceEntry;
  readonly record: CallRecord;
  readonly kv_tokens: number;
  has_leg = false;
  pulled = false;

  constructor(entry: InstanceEntry, record: CallRecord, kv_tokens: number) {
    this.entry = entry;
    this.record = record;
    this.kv_tokens = kv_tokens;
    entry.reservations.add(this);
    entry.reserved += 1;
    entry.deferred_pulls += 1;
    entry.kv_tokens += kv_tokens;
  }

  /** From here on the decode leg counts instead. */
  becomeLeg(): void {
    this.has_leg = true;
    this.entry.reserved -= 1;
  }

  pull(): void {
    if (this.pulled) return;
    this.pulled = true;
    this.entry.deferred_pulls -= 1;
  }

  release(): void {
    this.pull();
    if (!this.has_leg) this.entry.reserved -= 1;
    this.entry.kv_tokens -= this.kv_tokens;
    this.entry.reservations.delete(this);
  }
}

export class InstanceBook {
  readonly #entries = new Map<InstanceId, InstanceEntry>();
  readonly #by_model = new Map<string, InstanceEntry[]>();

  get(id: InstanceId): InstanceEntry | undefined {
    return this.#entries.get(id);
  }

  /** By instance id, so that a policy that takes the first of equals breaks ties by id (I9). */
  ofModel(model: string): readonly InstanceEntry[] {
    return this.#by_model.get(model) ?? NONE;
  }

  all(): readonly InstanceEntry[] {
    return [...this.#entries.values()];
  }

  ofGroup(group_id: GroupId): readonly InstanceEntry[] {
    return this.all().filter((entry) => entry.instance.group_id === group_id);
  }

  add(instance: Instance, on_rest_over: (entry: InstanceEntry) => void): void {
    if (this.#entries.has(instance.instance_id)) return;
    const entry = new InstanceEntry(instance, on_rest_over);
    this.#entries.set(instance.instance_id, entry);
    const siblings = this.#by_model.get(instance.model) ?? [];
    siblings.push(entry);
    siblings.sort((a, b) => (a.instance.instance_id < b.instance.instance_id ? -1 : 1));
    this.#by_model.set(instance.model, siblings);
  }

  /** Legs and reservations that still end there keep the entry itself alive until they have. */
  remove(entry: InstanceEntry): void {
    const { instance_id, model } = entry.instance;
    this.#entries.delete(instance_id);
    const siblings = this.ofModel(model).filter((other) => other !== entry);
    if (siblings.length === 0) this.#by_model.delete(model);
    else this.#by_model.set(model, siblings);
  }
}

const NONE: readonly InstanceEntry[] = [];
