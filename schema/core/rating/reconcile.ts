/**
 * The foot of every report (I1): what the node agents say was provisioned, against the sum of all usage rows. The two come from
 * different records, so the difference is 0 only if nothing was lost, doubled or deleted. What has no such counterpart (tokens,
 * requests, wall time) is held against the calls, and every row of any kind against the tally made when it was written.
 */
import { type Nanos, formatInstant, nanos } from "../time.ts";
import type { UsageReport } from "../wire/http.ts";
import { COST_CENTRES } from "../wire/usage.ts";

/** One cell, over [from, through): `through` is the end of the period or the cell's watermark, whichever is first. */
export type CellReconciliation = {
  readonly cell: string;
  readonly through_ns: Nanos;
  readonly provisioned_gpu_ns: bigint;
  /** By cost centre; calls under `calls`. */
  readonly metered_gpu_ns: Readonly<Record<string, bigint>>;
  /** Calls that ended in the period, and those of them whose tokens no usage row states. */
  readonly calls: number;
  readonly calls_without_usage: number;
};

/** A tenant's usage rows, of every kind, against what was counted when they were written. */
export type UsageRowCheck = {
  readonly written: bigint;
  /** By kind, where what is there differs from what was written: rows and quantity that are gone (negative: too many). */
  readonly missing: Readonly<Record<string, { readonly rows: string; readonly quantity: string }>>;
};

export function reconcile(from: Nanos, cells: readonly CellReconciliation[], rows: UsageRowCheck): UsageReport["reconciliation"] {
  // A cell that was gone before the period has nothing in it, and does not hold the line back.
  const live = cells.filter((cell) => cell.through_ns > from);
  const through = live.reduce<bigint | null>((least, c) => (least === null || c.through_ns < least ? c.through_ns : least), null) ?? from;
  const by_cost_centre: Record<string, bigint> = Object.fromEntries(["calls", ...COST_CENTRES].map((centre) => [centre, 0n]));
  let provisioned = 0n;
  let metered = 0n;
  let calls = 0;
  let calls_without_usage = 0;
  for (const cell of live) {
    provisioned += cell.provisioned_gpu_ns;
    calls += cell.calls;
    calls_without_usage += cell.calls_without_usage;
    for (const [centre, gpu_ns] of Object.entries(cell.metered_gpu_ns)) {
      by_cost_centre[centre] = (by_cost_centre[centre] ?? 0n) + gpu_ns;
      metered += gpu_ns;
    }
  }
  return {
    from: formatInstant(from),
    through: formatInstant(nanos(through)),
    provisioned_gpu_ns: provisioned.toString(),
    metered_gpu_ns: metered.toString(),
    difference_gpu_ns: (provisioned - metered).toString(),
    by_cost_centre: Object.fromEntries(Object.entries(by_cost_centre).map(([centre, gpu_ns]) => [centre, gpu_ns.toString()])),
    calls,
    calls_without_usage,
    usage_rows: rows.written.toString(),
    usage_rows_missing: { ...rows.missing },
  };
}
