/**
 * I8: every queue, map and buffer within its named limit, at every event. The scheduler's own picture of itself against its limits, the engines'
 * samples against theirs, and the buffers around: output kept of a call, frames under way on a link, rows of a shipment.
 */
import type { Micros } from "../../../schema/core/time.ts";
import type { Effect } from "../../policy/effects.ts";
import type { SchedulerEvent } from "../../policy/events.ts";
import type { SchedulerSnapshot } from "../../policy/scheduler.ts";
import { Books } from "./checker.ts";

export type Buffer = { readonly name: string; readonly size: number; readonly max: number };
export type LimitsParts = {
  /** Null: no gateway runs. */
  readonly snapshot: () => SchedulerSnapshot | null;
  readonly buffers: () => readonly Buffer[];
  readonly queued_per_model_max: number;
  readonly deferred_pulls_max: number;
};

export class LimitsChecker extends Books {
  readonly invariant = "I8";
  readonly #parts: LimitsParts;
  readonly #longest_prompt = new Map<string, number>();

  constructor(parts: LimitsParts) {
    super();
    this.#parts = parts;
  }

  event(event: SchedulerEvent, _effects: readonly Effect[], now: Micros): void {
    if (event.type === "call_arrived") {
      const { model, prompt_tokens } = event.call;
      this.#longest_prompt.set(model, Math.max(this.#longest_prompt.get(model) ?? 0, prompt_tokens));
    }
    if (event.type === "instance_sampled")
      this.check(event.kv_usage_ppm <= 1_000_000, now, () => `${event.instance_id} uses ${event.kv_usage_ppm} ppm of its KV memory`);
    const snapshot = this.#parts.snapshot();
    if (snapshot !== null) this.#scheduler(snapshot, now);
  }

  clock(now: Micros): void {
    for (const { name, size, max } of this.#parts.buffers()) this.check(size <= max, now, () => `${name}: ${size}, at most ${max}`);
  }

  #scheduler({ queues, instances, calls }: SchedulerSnapshot, now: Micros): void {
    const { queued_per_model_max, deferred_pulls_max } = this.#parts;
    let slots = 0;
    let waiting = 0;
    for (const { model, queued } of queues) {
      waiting += queued;
      this.check(
        queued <= queued_per_model_max + this.#slotsOf(instances, model),
        now,
        () => `${queued} calls are queued for ${model}, at most ${queued_per_model_max}`,
      );
    }
    for (const one of instances) {
      slots += one.slots;
      const { instance_id: id } = one;
      const counts = [one.legs, one.reserved, one.deferred_pulls, one.prefill_tokens, one.kv_tokens];
      this.check(Math.min(...counts) >= 0, now, () => `${id} has a negative count: ${counts.join(" ")}`);
      this.check(
        one.legs + one.reserved <= one.slots,
        now,
        () => `${id} has ${one.legs} legs and ${one.reserved} reservations in ${one.slots} slots`,
      );
      this.check(
        one.kv_tokens <= one.kv_tokens_max,
        now,
        () => `${id} is promised ${one.kv_tokens} tokens of KV, and has ${one.kv_tokens_max}`,
      );
      this.check(
        one.deferred_pulls <= deferred_pulls_max,
        now,
        () => `${id} has ${one.deferred_pulls} deferred pulls, at most ${deferred_pulls_max}`,
      );
      const prefill_max = Math.max(one.prefill_tokens_max, this.#longest_prompt.get(one.model) ?? 0);
      this.check(one.prefill_tokens <= prefill_max, now, () => `${id} prefills ${one.prefill_tokens} tokens, at most ${prefill_max}`);
    }
    // What is in no queue runs, rests or is being aborted, each of which took a slot.
    this.#in_flight_max = Math.max(this.#in_flight_max, slots);
    this.check(
      calls - waiting <= 2 * this.#in_flight_max + queued_per_model_max,
      now,
      () => `${calls} calls live, ${waiting} of them queued, on ${slots} slots`,
    );
  }
  #in_flight_max = 0;

  /** Calls that are tried again re-enter the queue past admission: no more of them than had a slot. */
  #slotsOf(instances: SchedulerSnapshot["instances"], model: string): number {
    let slots = 0;
    for (const one of instances) if (one.model === model) slots += one.slots;
    const most = Math.max(slots, this.#slots_seen.get(model) ?? 0);
    this.#slots_seen.set(model, most);
    return most;
  }
  readonly #slots_seen = new Map<string, number>();
}
