/**
 * I1: GPU time is conserved. What a fold over the whole journal gives adds up to the GPU-nanoseconds that the world itself provisioned, to the
 * nanosecond; it finds nothing in the journal that contradicts itself; no cost centre but `lost` ever gives time back. That the ledger
 * holds those rows is for I6.
 */
import type { Micros } from "../../../schema/core/time.ts";
import type { Refolded } from "../sim/meter.ts";
import { Books } from "./checker.ts";

export class GpuTimeChecker extends Books {
  readonly invariant = "I1";
  #metered = 0n;
  #provisioned = 0n;

  provisioned(gpus: number, nanoseconds: bigint): void {
    this.#provisioned += BigInt(gpus) * nanoseconds;
  }

  refolded({ rows, anomalies }: Refolded, now: Micros): void {
    this.check(anomalies.length === 0, now, () => `the fold says: ${anomalies[0]} (${anomalies.length} in all)`);
    for (const { id, kind, quantity, cost_centre, leg } of rows) {
      if (kind !== "gpu_time") continue;
      const gpu_ns = BigInt(quantity);
      this.check(
        gpu_ns > 0n || cost_centre === "lost",
        now,
        () => `row ${id} takes ${-gpu_ns} GPU-ns from ${leg ?? cost_centre ?? "nobody"}`,
      );
      this.#metered += gpu_ns;
    }
  }

  override end(now: Micros): void {
    const more = this.#metered - this.#provisioned;
    this.check(more === 0n, now, () => `${this.#metered} GPU-ns were metered, ${this.#provisioned} provisioned: ${more} more`);
  }
}
