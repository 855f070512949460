/**
 * I1: GPU time is conserved. What the ledger was sent, each row once, adds up to the GPU-nanoseconds that the world provisioned; a fold over
 * the whole journal gives those very rows and finds nothing wrong; no cost centre but `lost` ever takes time back.
 */
import type { Micros } from "../../../schema/core/time.ts";
import type { UsageEvent } from "../../../schema/core/wire/usage.ts";
import type { Refolded } from "../sim/meter.ts";
import { Books } from "./checker.ts";

export class GpuTimeChecker extends Books {
  readonly invariant = "I1";
  readonly #sent = new Map<string, bigint>();
  #provisioned = 0n;

  shipped(rows: readonly UsageEvent[], now: Micros): void {
    for (const row of rows) {
      if (row.kind !== "gpu_time") continue;
      const quantity = BigInt(row.quantity);
      this.check(quantity > 0n || row.cost_centre === "lost", now, () => `row ${row.id} takes back ${-quantity} GPU-ns from ${whose(row)}`);
      this.#sent.set(row.id, quantity);
    }
  }

  provisioned(gpus: number, nanoseconds: bigint): void {
    this.#provisioned += BigInt(gpus) * nanoseconds;
  }

  refolded({ rows, anomalies }: Refolded, now: Micros): void {
    this.check(anomalies.length === 0, now, () => `the fold says: ${anomalies[0]} (${anomalies.length} in all)`);
    let folded = 0;
    for (const row of rows) {
      if (row.kind !== "gpu_time") continue;
      folded += 1;
      const sent = this.#sent.get(row.id);
      this.check(
        sent === BigInt(row.quantity),
        now,
        () => `row ${row.id} of ${whose(row)} is ${row.quantity} GPU-ns by the journal, and was sent as ${sent}`,
      );
    }
    this.check(folded === this.#sent.size, now, () => `${this.#sent.size} rows were sent, the journal gives ${folded}`);
  }

  override end(now: Micros): void {
    let metered = 0n;
    for (const quantity of this.#sent.values()) metered += quantity;
    const difference = metered - this.#provisioned;
    this.check(difference === 0n, now, () => `${metered} GPU-ns were metered, ${this.#provisioned} provisioned: ${difference} too many`);
  }
}

const whose = (row: UsageEvent): string => row.leg ?? row.cost_centre ?? "nobody";
