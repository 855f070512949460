import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Worker } from "node:worker_threads";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Nanos } from "../../schema/core/time.ts";
import { reconcile } from "../policy/metering/reconcile.ts";
import { FileLedger } from "./file-ledger.test-support.ts";
import { createMeter, type Meter } from "./meter.ts";
import { accept, announce, CELL, NODE, serve } from "./meter.test-support.ts";
import type { ShippedRows } from "./shipper-messages.ts";
import { startShipperThread } from "./shipper-thread.ts";

let dir = "";
let anomalies: string[] = [];
let shipped: ShippedRows[] = [];
let superseded: string[] = [];
const path = (): string => join(dir, "ledger.ndjson");
const entry = new URL("./shipper-thread.test-child.ts", import.meta.url);

function open(): Promise<Meter> {
  let now = (): Nanos => 0n as Nanos;
  const meter = createMeter({
    journal_dir: join(dir, "journal"),
    cell: CELL,
    epoch: 1,
    boot_id: "boot",
    startShipper: (parts) => startShipperThread({ ...parts, ledger: path(), entry, on_shipped: (rows) => void shipped.push(rows) }),
    renew: () => Promise.resolve(new Map([[NODE, now()]])),
    on_failure: (reason) => expect.unreachable(reason),
    on_anomaly: (detail) => void anomalies.push(detail),
    on_superseded: (reason) => void superseded.push(reason),
  });
  return meter.then((made) => {
    now = () => made.now();
    return made;
  });
}

function work(meter: Meter, from: number, to: number): void {
  for (let i = from; i < to; i++) {
    accept(meter, `call_${i}`);
    serve(meter, `call_${i}`);
  }
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "millrace-shipper-"));
  anomalies = [];
  shipped = [];
  superseded = [];
});
afterEach(() => rm(dir, { recursive: true }));

describe("the shipper's thread", () => {
  test("ships all that a settlement asks for, says what the ledger has, and ends when the meter closes", async () => {
    const meter = await open();
    announce(meter, meter.now());
    work(meter, 0, 20);
    const outcome = await meter.settle();
    if (outcome.type !== "settled") return expect.unreachable(outcome.reason);
    const ledger = new FileLedger(path());
    expect(ledger.calls.size).toBe(20);
    expect(ledger.watermark).toBe(outcome.watermark);
    expect(reconcile(ledger.provisions.values(), ledger.usage.values(), 0n, outcome.watermark)).toMatchObject({ difference_gpu_ns: 0n });
    expect(shipped.at(-1)?.watermark).toBe(outcome.watermark);
    expect(new Map(shipped.flatMap((rows) => rows.gpu_ns)).has("calls")).toBe(true);

    work(meter, 20, 30);
    await meter.close();
    expect(new FileLedger(path()).calls.size).toBe(30);
    expect(anomalies).toEqual([]);
  });

  test("is started again when it dies; what it had in hand is sent again and changes nothing", async () => {
    const meter = await open();
    announce(meter, meter.now());
    work(meter, 0, 20);
    await writeFile(`${path()}.die`, "");
    const [first, second] = await Promise.all([meter.settle(), meter.settle()]);
    expect([first.type, second.type]).toContain("behind");
    work(meter, 20, 25);
    await vi.waitUntil(async () => (await meter.settle()).type === "settled", { timeout: 20_000 });
    await meter.close();

    const ledger = new FileLedger(path());
    expect(ledger.calls.size).toBe(25);
    expect([ledger.repeated > 0, ledger.conflicts]).toEqual([true, 0]);
    expect(reconcile(ledger.provisions.values(), ledger.usage.values(), 0n, ledger.watermark)).toMatchObject({ difference_gpu_ns: 0n });
    expect(anomalies).toMatchObject([expect.stringContaining("started again")]);
  });

  test("superseded says so once, and is not started again when it ends", async () => {
    const [worker, meter] = await Promise.all([once(process, "worker").then(([one]) => one as Worker), open()]);
    const ended = once(worker, "exit");
    announce(meter, meter.now());
    await writeFile(`${path()}.superseded`, "");
    work(meter, 0, 5);
    const outcome = await meter.settle();
    expect(outcome).toMatchObject({ type: "behind", watermark: null, reason: expect.stringContaining("under epoch 2") });
    await rm(`${path()}.superseded`);
    work(meter, 5, 10);
    expect(await meter.settle()).toEqual(outcome);
    await writeFile(`${path()}.end`, "");
    await meter.cut();
    await ended;
    await meter.close();
    expect([superseded, anomalies, shipped]).toEqual([[expect.stringContaining("under epoch 2")], [], []]);
    expect(new FileLedger(path()).calls.size).toBe(0);
  });

  test("that cannot start says why: the gateway does not begin on books that nobody keeps", async () => {
    await expect(
      startShipperThread({
        dir: join(dir, "nowhere"),
        cell: CELL,
        epoch: 1,
        journal: {
          end: () => ({ segment: 1, offset: 0, seq: 0 }),
          read: () => expect.unreachable(),
          first: () => expect.unreachable(),
          prune: () => expect.unreachable(),
        },
        ledger: path(),
        entry,
        on_anomaly: (detail) => void anomalies.push(detail),
        on_superseded: (reason) => expect.unreachable(reason),
        on_shipped: () => undefined,
      }),
    ).rejects.toThrow("the shipper cannot start");
    expect(anomalies).toEqual([]);
  });
});
