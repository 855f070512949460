/**
 * One queue per model, in the order that the Ordering policy gives. A queue is *touched* when its head may be able to go now;
 * touched queues are served at the end of the event, in the order of touching. A queued call hears its place when it joins,
 * then when the queue names it at a place (1, 4, 16, 64, …) that is at most half of what it heard last: a bounded number of times.
 */
import type { CallQueue, Ordering, QueueView } from "../policies.ts";
import type { Micros } from "../../../schema/core/time.ts";
import type { CallRecord } from "./call-record.ts";
import type { Outbox } from "./outbox.ts";

export class Queues {
  readonly #ordering: Ordering;
  readonly #outbox: Outbox;
  readonly #queues = new Map<string, CallQueue<CallRecord>>();
  readonly #touched = new Set<string>();
  readonly #moved = new Set<string>();
  #backlogged = 0;

  constructor(ordering: Ordering, outbox: Outbox) {
    this.#ordering = ordering;
    this.#outbox = outbox;
  }

  add(record: CallRecord): void {
    const { model } = record.call;
    let queue = this.#queues.get(model);
    if (queue === undefined) {
      queue = this.#ordering.queue<CallRecord>(model);
      this.#queues.set(model, queue);
    }
    queue.add(record);
    if (queue.first() === record) this.touch(model);
  }

  remove(record: CallRecord): void {
    const { model } = record.call;
    const queue = this.#queues.get(model);
    if (queue === undefined) return;
    const was_first = queue.first() === record;
    queue.remove(record);
    if (queue.size === 0) this.#queues.delete(model);
    else {
      this.#moved.add(model);
      if (was_first) this.touch(model);
    }
  }

  /** Something was freed, or came, that the head of this model's queue may use. */
  touch(model: string): void {
    if (this.#queues.has(model)) this.#touched.add(model);
  }

  first(model: string): CallRecord | undefined {
    return this.#queues.get(model)?.first();
  }

  size(model: string): number {
    return this.#queues.get(model)?.size ?? 0;
  }

  takeTouched(): readonly string[] {
    if (this.#touched.size === 0) return NONE;
    const models = [...this.#touched];
    this.#touched.clear();
    return models;
  }

  /** True when more models have calls waiting than when this was asked last. */
  takeBacklogged(): boolean {
    const before = this.#backlogged;
    this.#backlogged = this.#queues.size;
    return this.#backlogged > before;
  }

  tellPlaceOf(record: CallRecord): void {
    const place = this.#queues.get(record.call.model)?.placeOf(record);
    if (place !== undefined && record.told === 0) this.#tell(record, place);
  }

  tellMoved(): void {
    if (this.#moved.size === 0) return;
    for (const model of this.#moved)
      this.#queues.get(model)?.visitMilestones((record, place) => {
        if (record.told === 0 || place * 2 <= record.told) this.#tell(record, place);
      });
    this.#moved.clear();
  }

  views(now: Micros): readonly QueueView[] {
    return [...this.#queues].map(([model, queue]) => ({ model, queued: queue.size, now }));
  }

  #tell(record: CallRecord, place: number): void {
    record.told = place;
    this.#outbox.emit({ type: "progress", call_id: record.call.call_id, position: place });
  }
}

const NONE: readonly string[] = [];
