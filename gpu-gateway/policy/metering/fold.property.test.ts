import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NANOS_PER_MINUTE, nanos } from "../../../schema/core/time.ts";
import { COST_CENTRES, LEG_STATES, usageEvent, type UsageEvent } from "../../../schema/core/wire/usage.ts";
import type { FoldState } from "./checkpoint.ts";
import { createFold } from "./fold.ts";
import type { FoldOutput, StatedProvision } from "./outputs.ts";
import type { MeteringRecord } from "./records.ts";
import { reconcile } from "./reconcile.ts";
import { CELL, recordsOf, steps } from "./sequences.test-support.ts";

const RUNS = { numRuns: 1_000 };

const fold = (records: readonly MeteringRecord[]): FoldOutput[] => {
  const whole = createFold(CELL);
  return records.flatMap((record) => whole.apply(record));
};
const rowsOf = (outputs: readonly FoldOutput[]): UsageEvent[] => outputs.flatMap((o) => (o.type === "usage" ? [o.event] : []));
const gpuRows = (outputs: readonly FoldOutput[]): UsageEvent[] => rowsOf(outputs).filter((row) => row.kind === "gpu_time");
const provisionsOf = (outputs: readonly FoldOutput[]): StatedProvision[] => [
  ...new Map(outputs.flatMap((o) => (o.type === "provision" ? [[o.provision.provision_id, o.provision] as const] : []))).values(),
];
const min = (a: bigint, b: bigint): bigint => (a < b ? a : b);
const conservation = (outputs: readonly FoldOutput[]) => outputs.filter((o) => o.type === "anomaly" && o.detail.startsWith("conservation"));

/** At every watermark, what was given out so far equals what the nodes stated so far, node by node, to the nanosecond. */
function expectConserved(outputs: readonly FoldOutput[]): void {
  expect(conservation(outputs)).toEqual([]);
  for (const [index, output] of outputs.entries()) {
    if (output.type !== "watermark") continue;
    const before = outputs.slice(0, index);
    const { nodes, straddling } = reconcile(provisionsOf(before), gpuRows(before), 0n, output.t);
    expect(straddling).toEqual([]);
    for (const [node, { difference_gpu_ns }] of nodes) expect([node, difference_gpu_ns]).toEqual([node, 0n]);
  }
  expectConservedApart(outputs);
}

/** And so does each stretch between two UTC minutes or cuts by itself: one may not make good for another. */
function expectConservedApart(outputs: readonly FoldOutput[]): void {
  const [rows, provisions] = [gpuRows(outputs), provisionsOf(outputs)];
  const through: bigint = outputs.findLast((o) => o.type === "watermark")?.t ?? 0n;
  const edges = new Set<bigint>(outputs.flatMap((o) => (o.type === "watermark" ? [o.t] : [])));
  let first = through;
  for (const row of rows) first = min(first, BigInt(row.from_ns));
  for (const { provisioned_at } of provisions) first = min(first, provisioned_at);
  for (let minute = first - (first % NANOS_PER_MINUTE); minute < through; minute += NANOS_PER_MINUTE) edges.add(minute);
  const sorted = [...edges].sort((x, y) => (x < y ? -1 : 1));
  for (const [index, to] of sorted.entries()) {
    const from = sorted[index - 1];
    if (from === undefined) continue;
    const within = rows.filter((row) => BigInt(row.to_ns) > from && BigInt(row.from_ns) < to);
    const { nodes, straddling } = reconcile(provisions, within, from, to);
    expect(straddling).toEqual([]);
    for (const [node, { difference_gpu_ns }] of nodes) expect([node, from, difference_gpu_ns]).toEqual([node, from, 0n]);
  }
}

test("the sequences reach every use of a GPU, corrections and anomalies (a run in which nothing fired proves nothing)", () => {
  const seen = new Map<string, number>();
  for (const all of fc.sample(steps, { seed: 7, numRuns: 1_000 })) {
    for (const output of fold(recordsOf(all))) {
      const row = output.type === "usage" ? output.event : null;
      const what = row ? (BigInt(row.quantity) < 0n ? "correction" : (row.leg_state ?? row.cost_centre ?? row.kind)) : output.type;
      seen.set(what, (seen.get(what) ?? 0) + 1);
    }
  }
  const uses = [...LEG_STATES, ...COST_CENTRES, "correction", "tokens", "call", "provision", "watermark", "anomaly"];
  for (const what of uses) expect([what, (seen.get(what) ?? 0) >= 50]).toEqual([what, true]);
});

describe("any sequence of records", () => {
  test("conserves GPU time per node at each cut (I1)", () => {
    fc.assert(
      fc.property(steps, (all) => expectConserved(fold(recordsOf(all)))),
      RUNS,
    );
  });

  test("gives rows that are valid, unique by id, and neither overlap nor cross a minute or a cut", () => {
    fc.assert(
      fc.property(steps, (all) => {
        const records = recordsOf(all);
        const rows = rowsOf(fold(records));
        const cuts = records.flatMap((record) => (record.type === "cut" ? [BigInt(record.t)] : []));
        expect(new Set(rows.map((row) => row.id)).size).toBe(rows.length);
        const by_owner = new Map<string, { from: bigint; to: bigint }[]>();
        for (const row of rows) {
          usageEvent.parse(row);
          const from = BigInt(row.from_ns);
          const to = BigInt(row.to_ns);
          expect(from < to).toBe(true);
          expect(from / NANOS_PER_MINUTE).toBe((to - 1n) / NANOS_PER_MINUTE);
          expect(cuts.filter((cut) => from < cut && cut < to)).toEqual([]);
          if (row.kind !== "gpu_time") continue;
          expect((row.tenant === undefined) === (row.cost_centre !== undefined)).toBe(true);
          const correction = BigInt(row.quantity) < 0n;
          if (correction) expect([row.cost_centre, row.group]).toEqual(["lost", undefined]);
          const owner = JSON.stringify([row.node, row.group, row.instance, row.leg, row.leg_state, row.cost_centre, correction]);
          by_owner.set(owner, [...(by_owner.get(owner) ?? []), { from, to }]);
        }
        // A node that was released, and provisioned anew, before time already metered: its corrections take back the first of the two.
        const corrected = rows.filter((row) => row.kind === "gpu_time" && BigInt(row.quantity) < 0n);
        for (const [owner, extents] of by_owner) {
          const [node] = JSON.parse(owner) as [string];
          extents.sort((x, y) => (x.from < y.from ? -1 : 1));
          for (const [i, extent] of extents.entries()) {
            const overlap = { from: extent.from, to: min(extent.to, extents[i - 1]?.to ?? 0n) };
            for (const row of corrected) {
              if (row.node === node && BigInt(row.from_ns) <= overlap.from && overlap.from < BigInt(row.to_ns))
                overlap.from = BigInt(row.to_ns);
            }
            expect(overlap.from >= overlap.to).toBe(true);
          }
        }
      }),
      RUNS,
    );
  });

  test("gives the same rows when the fold stops at any record and resumes from its checkpoint", () => {
    fc.assert(
      fc.property(steps, fc.nat(), (all, where) => {
        const records = recordsOf(all);
        const at = where % records.length;
        const first = createFold(CELL);
        const outputs = records.slice(0, at).flatMap((record) => first.apply(record));
        const saved = JSON.parse(JSON.stringify(first.checkpoint())) as FoldState;
        const second = createFold(CELL, saved);
        outputs.push(...records.slice(at).flatMap((record) => second.apply(record)));
        expect(outputs).toEqual(fold(records));
      }),
      RUNS,
    );
  });

  test("is conserved when the journal ends anywhere and a boot follows; the gap is on `lost`", () => {
    fc.assert(
      fc.property(steps, fc.nat(), fc.bigInt(1n, 150_000_000_000n), (all, where, gap) => {
        const kept = recordsOf(all);
        kept.length = 1 + (where % kept.length);
        const last_t = kept.at(-1)!.t;
        const t = nanos(last_t + gap);
        const before = fold(kept);
        const outputs = fold([...kept, { type: "boot", t, cell: CELL, epoch: 99, boot_id: "after" }, { type: "cut", t }]);
        expectConserved(outputs);
        const gap_rows = gpuRows(outputs).filter((row) => BigInt(row.from_ns) >= last_t && row.group === undefined);
        for (const row of gpuRows(outputs).slice(gpuRows(before).length)) {
          if (BigInt(row.from_ns) >= last_t) expect(row.cost_centre).toBe("lost");
        }
        const in_gap = reconcile(provisionsOf(outputs), gap_rows, last_t, t);
        // A node whose release lay ahead, or that was announced late, has rows on both sides; those that were known are exact.
        expect(in_gap.difference_gpu_ns).toBe(0n);
      }),
      RUNS,
    );
  });

  test("gives the same totals from its rows in any order, repeated and batched in any way (I6)", () => {
    fc.assert(
      fc.property(steps, fc.infiniteStream(fc.nat()), (all, draws) => {
        const outputs = fold(recordsOf(all));
        const rows = gpuRows(outputs);
        const delivered = [...rows, ...rows.filter((_, i) => i % 3 === 0)]
          .map((row) => ({ row, key: draws.next().value ?? 0 }))
          .sort((x, y) => x.key - y.key);
        const stored = new Map(delivered.map(({ row }) => [row.id, row]));
        const through = BigInt(outputs.findLast((o) => o.type === "watermark")!.t);
        const provisions = provisionsOf(outputs);
        const whole = reconcile(provisions, rows, 0n, through);
        const again = reconcile(provisions, stored.values(), 0n, through);
        expect(again.nodes).toEqual(whole.nodes);
        expect(Object.fromEntries(again.by_use)).toEqual(Object.fromEntries(whole.by_use));
      }),
      RUNS,
    );
  });
});
