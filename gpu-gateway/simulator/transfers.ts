/**
 * KV on its way between instances, over links that all transfers share (engine-model/transfer.ts). What a fault does to one happens
 * here; what a pull means to the two engines is theirs.
 */
import { A100_FABRIC, TransferModel } from "../engine-model/transfer.ts";
import type { Task, VirtualClock } from "./clock.ts";
import type { TransferFault } from "./faults/hooks.ts";
import type { Job } from "./job.ts";
import type { VirtualEngine } from "./virtual-engine.ts";

/** A read that nobody answers is given up after this (engines/simulated/kv-channel.ts). */
const LOST_NOTICED_US = 5_000_000;

/** One instance reads another's KV. */
export type Reading = {
  readonly job: Job;
  readonly from: VirtualEngine;
  readonly to: VirtualEngine;
  readonly bytes: number;
  /** May come twice, after a fault. */
  readonly arrived: () => void;
  readonly lost: () => void;
};
type Transfer = { readonly reading: Reading; readonly fault: TransferFault | null };

export class Transfers implements Task {
  readonly #clock: VirtualClock;
  readonly #model = new TransferModel(A100_FABRIC);
  /** Under way, or held up by a fault. */
  readonly #transfers = new Map<string, Transfer>();
  /** Each meant for one transfer. Bounded by what the fault schedule asks for. */
  readonly #faults: { readonly fault: TransferFault; readonly until: number; readonly fired: (() => void) | null }[] = [];
  #wake_at = Number.POSITIVE_INFINITY;

  constructor(clock: VirtualClock) {
    this.#clock = clock;
  }

  next(fault: TransferFault, until: number, fired: (() => void) | null): void {
    this.#faults.push({ fault, until, fired });
  }

  begin(reading: Reading): void {
    const { now } = this.#clock;
    const { job, from, to, bytes } = reading;
    if (!from.alive) return reading.lost();
    const fault = this.#takeFault();
    const transfer = { reading, fault };
    if (fault?.type === "lost") {
      this.#transfers.set(job.id, transfer);
      this.#clock.alarm(now + LOST_NOTICED_US, () => this.#transfers.get(job.id) === transfer && this.#lose(transfer));
      return;
    }
    const outcome = this.#model.begin(job.id, from.gpus, to.gpus, bytes, now);
    if (outcome.type === "refused") return reading.lost();
    this.#transfers.set(job.id, transfer);
    this.#arm();
  }

  cancel(job: Job): void {
    if (!this.#transfers.delete(job.id)) return;
    this.#model.cancel(job.id, this.#clock.now);
    this.#arm();
  }

  /** Who pulls from it gets nothing more; what it pulls itself ends with it. */
  engineDied(engine: VirtualEngine): void {
    for (const transfer of this.#transfers.values()) {
      if (transfer.reading.to === engine) this.cancel(transfer.reading.job);
      else if (transfer.reading.from === engine) this.#lose(transfer);
    }
  }

  run(): void {
    if (this.#clock.now !== this.#wake_at) return; // the times have changed since
    this.#wake_at = Number.POSITIVE_INFINITY;
    for (const id of this.#model.advance(this.#clock.now)) {
      const transfer = this.#transfers.get(id);
      if (transfer !== undefined) this.#arrived(transfer);
    }
    this.#arm();
  }

  #arrived(transfer: Transfer): void {
    const { reading, fault } = transfer;
    if (fault?.type === "late") {
      const again = () => this.#transfers.get(reading.job.id) === transfer && this.#over(reading);
      this.#clock.alarm(this.#clock.now + fault.by, again);
      return;
    }
    this.#over(reading);
    if (fault?.type === "duplicated") this.#clock.alarm(this.#clock.now + fault.after, () => reading.to.alive && reading.arrived());
  }

  #over(reading: Reading): void {
    this.#transfers.delete(reading.job.id);
    reading.arrived();
  }

  #lose({ reading }: Transfer): void {
    this.cancel(reading.job);
    reading.lost();
  }

  #takeFault(): TransferFault | null {
    while (this.#faults.length > 0) {
      const next = this.#faults.shift();
      if (next === undefined || next.until <= this.#clock.now) continue;
      next.fired?.();
      return next.fault;
    }
    return null;
  }

  #arm(): void {
    const at = this.#model.wake();
    if (at === null || at === this.#wake_at) return;
    this.#wake_at = Math.max(at, this.#clock.now);
    this.#clock.schedule(this.#wake_at, this);
  }
}
