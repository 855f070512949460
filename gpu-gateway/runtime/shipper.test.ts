/** What a shipment vouches for: its watermark, and nothing past what it brought. A real journal, a ledger in a file. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { nanos, type Nanos } from "../../schema/core/time.ts";
import { reconcile } from "../policy/metering/reconcile.ts";
import type { Ledger, Shipment } from "../ports/ledger.ts";
import { FileLedger } from "./file-ledger.test-support.ts";
import { openJournal, type Journal } from "./journal/journal.ts";
import { accept, announce, CELL, serve } from "./meter.test-support.ts";
import type { Meter } from "./meter.ts";
import { createShipper } from "./shipper.ts";

const START = 1_795_000_030_000_000_000n; // half a minute before a UTC minute ends
const SECOND = 1_000_000_000n;

let dir = "";
let journal: Journal;
let file: FileLedger;
let shipments: Shipment[];
let told: string[];
let now = START;

const ledger: Ledger = {
  async ship(shipment) {
    const outcome = await file.ship(shipment);
    shipments.push(shipment);
    // A reader may look at any moment: what the watermark vouches for is whole.
    const books = reconcile(file.provisions.values(), file.usage.values(), 0n, file.watermark);
    expect([shipments.length, books.difference_gpu_ns, books.straddling]).toEqual([shipments.length, 0n, []]);
    return outcome;
  },
};
const write = (record: object): Nanos => {
  now += 1n;
  journal.append({ ...record, t: nanos(now) } as never);
  return nanos(now);
};
const teller = { record: (record: object) => write(record) } as unknown as Meter;
/** Calls, a second each, and a cut after every `calls_per_cut` of them. The cuts' instants. */
function busy(calls: number, calls_per_cut: number): Nanos[] {
  write({ type: "boot", cell: CELL, epoch: 1, boot_id: "boot" });
  announce(teller, nanos(START));
  const cuts: Nanos[] = [];
  for (let i = 0; i < calls; i++) {
    accept(teller, `call_${i}`);
    now += SECOND;
    serve(teller, `call_${i}`);
    if (i % calls_per_cut === calls_per_cut - 1) cuts.push(write({ type: "cut" }));
  }
  return cuts;
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "millrace-shipper-"));
  journal = await openJournal({ dir: join(dir, "journal"), cell: CELL, on_failure: (reason) => expect.unreachable(reason) });
  file = new FileLedger(join(dir, "ledger.ndjson"));
  shipments = [];
  told = [];
  now = START;
});
afterEach(async () => {
  await journal.close();
  await rm(dir, { recursive: true });
});
const shipper = (shipment_rows_max: number) =>
  createShipper({
    dir: join(dir, "journal"),
    cell: CELL,
    epoch: 1,
    journal,
    ledger,
    on_anomaly: (detail) => expect.unreachable(detail),
    on_superseded: (reason) => void told.push(reason),
    shipment_rows_max,
  });

test("shipments of a few rows: after each the books add up to its watermark, which is the last cut that is whole", async () => {
  const cuts = busy(90, 7);
  await journal.durable();
  const ship = await shipper(5);
  const last = cuts.at(-1) ?? nanos(0n);
  ship.release(journal.end(), last);
  expect(await ship.settle()).toEqual({ type: "settled", watermark: last });
  expect(shipments.length).toBeGreaterThan(20);
  const watermarks = shipments.map(({ watermark }) => watermark);
  expect(watermarks.every((watermark, index) => watermark >= (watermarks[index - 1] ?? 0n))).toBe(true);
  expect(new Set(watermarks)).toEqual(new Set(cuts));
  await ship.close();
});

test("a cut that was not released yet is vouched for by no shipment, though its rows are on their way", async () => {
  const [first = nanos(0n)] = busy(21, 7);
  await journal.durable();
  const ship = await shipper(5);
  ship.release(journal.end(), first);
  expect(await ship.settle()).toEqual({ type: "settled", watermark: first });
  expect(shipments.every(({ watermark }) => watermark <= first)).toBe(true);
  await ship.close();
});

test("nothing to read, but a watermark: one shipment says so, and it is over", async () => {
  await journal.durable();
  const ship = await shipper(5);
  ship.release(journal.end(), nanos(START));
  expect(await ship.settle()).toEqual({ type: "settled", watermark: nanos(START) });
  expect(shipments).toMatchObject([{ usage: [], calls: [], provisions: [], watermark: START }]);
  await ship.close();
});

test("superseded: nothing is shipped again, whoever asks; it is said once", async () => {
  const cuts = busy(14, 7);
  await journal.durable();
  const [first = nanos(0n), last = nanos(0n)] = cuts;
  const ship = await shipper(5);
  ship.release(journal.end(), first);
  expect((await ship.settle()).type).toBe("settled");
  const sent = shipments.length;
  file.fault = "superseded";
  ship.release(journal.end(), last);
  const outcome = {
    type: "behind",
    watermark: first,
    reason: expect.stringMatching(/another gateway took cell cell_meter over under epoch 2; this one has 1/),
  };
  expect(await ship.settle()).toEqual(outcome);
  // Even if the ledger would take it again.
  file.fault = null;
  expect(await ship.settle()).toEqual(outcome);
  ship.release(journal.end(), last);
  expect(await ship.settle()).toEqual(outcome);
  expect([shipments.length, told.length]).toEqual([sent + 1, 1]);
  await ship.close();
});
