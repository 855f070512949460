import { spawn } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import { nanos } from "../../schema/core/time.ts";
import type { UsageEvent } from "../../schema/core/wire/usage.ts";
import { createFold } from "../policy/metering/fold.ts";
import type { MeteringRecord } from "../policy/metering/records.ts";
import { reconcile } from "../policy/metering/reconcile.ts";
import { FileLedger } from "./file-ledger.test-support.ts";
import { openJournal } from "./journal/journal.ts";
import { beginningOf } from "./journal/segments.ts";
import { createMeter } from "./meter.ts";
import { announce, CELL, NODE, PROVISION } from "./meter.test-support.ts";
import { createShipper } from "./shipper.ts";

const KILLS = 12;
const SEED = 0x5eed;

let dir = "";
beforeEach(async () => void (dir = await mkdtemp(join(tmpdir(), "millrace-crash-"))));
afterEach(() => rm(dir, { recursive: true }));

/** Runs the child and kills it as soon as it has said `after` calls. Answers those calls, and its anomalies. */
async function runAndKill(round: number, after: number, provisioned_at: bigint): Promise<{ durable: string[]; anomalies: string[] }> {
  const script = fileURLToPath(new URL("./meter-crash.test-child.ts", import.meta.url));
  const child = spawn(process.execPath, [script, dir, String(round), String(provisioned_at)], { stdio: ["ignore", "pipe", "inherit"] });
  const durable: string[] = [];
  const anomalies: string[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    (line.startsWith("d ") ? durable : anomalies).push(line.slice(2));
    if (durable.length === after) child.kill("SIGKILL");
  }
  expect(durable.length).toBeGreaterThanOrEqual(after);
  return { durable, anomalies };
}

async function wholeJournal(): Promise<MeteringRecord[]> {
  const journal = await openJournal({ dir: join(dir, "journal"), cell: CELL, on_failure: (reason) => expect.unreachable(reason) });
  const records: MeteringRecord[] = [];
  for await (const { record } of journal.read(beginningOf(await journal.first()), journal.end())) records.push(record);
  await journal.close();
  return records;
}

test(
  "killed at random points, it loses nothing that was durable, and the books balance to the nanosecond",
  { timeout: 120_000 },
  async () => {
    const provisioned_at = BigInt(Date.now()) * 1_000_000n;
    const durable: string[] = [];
    const anomalies: string[] = [];
    let random = SEED;
    for (let round = 1; round <= KILLS; round++) {
      random = (random * 1_103_515_245 + 12_345) & 0x7fffffff;
      const run = await runAndKill(round, 1 + (random % 90), provisioned_at);
      durable.push(...run.durable);
      anomalies.push(...run.anomalies);
    }

    const ledger = new FileLedger(join(dir, "ledger.ndjson"));
    const shipped_while_killed = ledger.usage.size;
    const meter = await createMeter({
      journal_dir: join(dir, "journal"),
      cell: CELL,
      epoch: KILLS + 1,
      boot_id: "last",
      startShipper: (parts) => createShipper({ ...parts, ledger }),
      renew: () => Promise.resolve(new Map()),
      on_failure: (reason) => expect.unreachable(reason),
      on_anomaly: (detail) => void anomalies.push(detail),
    });
    announce(meter, nanos(provisioned_at));
    meter.record({ type: "node_released", node: NODE, at: meter.now(), provision_id: PROVISION });
    const settled = await meter.settle();
    expect(settled.type).toBe("settled");
    await meter.close();

    const records = await wholeJournal();
    const accepted = new Set(records.flatMap((record) => (record.type === "call_accepted" ? [String(record.call)] : [])));
    expect(durable.filter((call) => !accepted.has(call))).toEqual([]);

    const books = reconcile(ledger.provisions.values(), ledger.usage.values(), 0n, ledger.watermark);
    expect(books).toMatchObject({ difference_gpu_ns: 0n, straddling: [] });
    expect(books.provisioned_gpu_ns > 0n).toBe(true);
    expect((books.by_use.get("lost") ?? 0n) > 0n).toBe(true);
    expect(ledger.conflicts).toBe(0);
    expect(anomalies.filter((detail) => !detail.includes("unfinished write"))).toEqual([]);

    // Anyone who folds the files from their beginning gets the ledger's rows, each of them and no other.
    const fold = createFold(CELL);
    const recomputed = records.flatMap((record) => fold.apply(record)).flatMap((o): UsageEvent[] => (o.type === "usage" ? [o.event] : []));
    const by_id = (rows: Iterable<UsageEvent>) => Object.fromEntries([...rows].map((row) => [row.id, row]));
    expect(by_id(ledger.usage.values())).toEqual(by_id(recomputed));

    // A run in which nothing was at stake proves nothing.
    expect(shipped_while_killed).toBeGreaterThan(100);
    expect(records.filter((record) => record.type === "boot").length).toBe(KILLS + 1);
    expect((await readdir(join(dir, "journal"))).filter((name) => name.endsWith(".ndjson")).length).toBeGreaterThan(2);
  },
);
