import { execFile } from "node:child_process";
import { appendFile, mkdtemp, open as openFile, readFile, rm, truncate, writeFile, type FileHandle } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { asId } from "../../../schema/core/ids.ts";
import { nanos } from "../../../schema/core/time.ts";
import type { MeteringRecord } from "../../policy/metering/records.ts";
import { decodeLine, encodeLine } from "./codec.ts";
import { openJournal, type Journal, type JournalOptions } from "./journal.ts";
import { beginningOf, listSegments, segmentPath } from "./segments.ts";

const CELL = asId<"cell">("cell_journal");
const T0 = 1_795_000_000_000_000_000n;
const node = (n: number): MeteringRecord => ({
  type: "node_provisioned",
  t: nanos(T0 + BigInt(n)),
  node: asId<"node">(`node_${n}`),
  gpus: 4,
  at: nanos(T0 - 5n),
  provision_id: `prov_${n}`,
});
const alive = (n: number): MeteringRecord => ({ type: "alive", t: nanos(T0 + BigInt(n)) });

let dir = "";
let failures: string[] = [];
const open = (more: Partial<JournalOptions> = {}): Promise<Journal> =>
  openJournal({ dir, cell: CELL, on_failure: (reason) => void failures.push(reason), ...more });
async function contents(journal: Journal): Promise<MeteringRecord[]> {
  const all: MeteringRecord[] = [];
  for await (const { record } of journal.read(beginningOf(await journal.first()), journal.end())) all.push(record);
  return all;
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "millrace-journal-"));
  failures = [];
});
afterEach(() => rm(dir, { recursive: true }));

describe("a line", () => {
  test("keeps instants exactly, and is JSON for anyone else", () => {
    const line = encodeLine(7, node(1));
    expect(JSON.parse(line)).toMatchObject({
      seq: 7,
      r: { type: "node_provisioned", t: "1795000000000000001", at: "1794999999999999995" },
    });
    expect(decodeLine(line.trimEnd())).toEqual({ ok: true, seq: 7, entry: node(1) });
  });

  test("that was altered or moved in any character is known", () => {
    const line = encodeLine(12, node(3)).trimEnd();
    for (let i = 0; i < line.length; i++) {
      const other = line[i] === "7" ? "8" : "7";
      expect(decodeLine(line.slice(0, i) + other + line.slice(i + 1)).ok).toBe(false);
    }
  });
});

describe("the journal", () => {
  test("gives back after a restart what was durable, in order, and the fold of it", async () => {
    const first = await open();
    const records = Array.from({ length: 500 }, (_, i) => node(i));
    for (const record of records) first.append(record);
    await first.durable();
    const state = first.fold.checkpoint();
    await first.close();
    const second = await open();
    expect(await contents(second)).toEqual(records);
    expect(second.fold.checkpoint()).toEqual(state);
    expect(second.last_t).toBe(records.at(-1)!.t);
    expect(second.recovery).toEqual({ torn: null, records_replayed: 500 });
    await second.close();
  });

  test("commits many appends with few writes, and `durable` covers all appended before it", async () => {
    const journal = await open();
    const waits: Promise<void>[] = [];
    for (let i = 0; i < 1_000; i++) {
      journal.append(alive(i));
      if (i % 10 === 0) waits.push(journal.durable());
    }
    await Promise.all(waits);
    await journal.durable();
    expect(journal.end().seq).toBe(1_001);
    const text = await readFile(segmentPath(dir, 1), "utf8");
    expect(text.split("\n").length).toBe(1_002);
    await journal.close();
  });

  test("`durable` resolves only once what was written is synced: in the open segment, and in one that a new segment closes", async () => {
    const journal = await open({ segment_bytes_max: 400 });
    const probe = await openFile(dir, "r");
    const handle = Object.getPrototypeOf(probe) as FileHandle;
    await probe.close();
    const done: string[] = [];
    let gate = Promise.withResolvers<void>();
    const spies = [
      vi.spyOn(handle, "appendFile").mockImplementation(async function (this: FileHandle, data) {
        await this.writeFile(data);
        done.push(`write ${this.fd}`);
      }),
      vi.spyOn(handle, "datasync").mockImplementation(async function (this: FileHandle) {
        done.push(`sync ${this.fd}`);
        await gate.promise;
      }),
    ];
    try {
      journal.append(node(1));
      const before = journal.end();
      const durable = journal.durable().then(() => void done.push("durable"));
      await vi.waitUntil(() => done.length >= 2);
      await new Promise((resolve) => setImmediate(resolve));
      const fd = done[0]!.slice("write ".length);
      expect(done).toEqual([`write ${fd}`, `sync ${fd}`]);
      expect(journal.end()).toEqual(before);
      gate.resolve();
      await durable;
      expect(done).toEqual([`write ${fd}`, `sync ${fd}`, "durable"]);

      done.length = 0;
      gate = Promise.withResolvers<void>();
      gate.resolve();
      for (let n = 2; n < 8; n++) journal.append(node(n));
      await journal.durable();
      expect((await listSegments(dir)).length).toBeGreaterThan(1);
      const kinds = done.map((one) => one.split(" ")[0]);
      expect(kinds).toEqual(kinds.map((_, i) => (i % 2 === 0 ? "write" : "sync")));
      expect(kinds.length % 2).toBe(0);
    } finally {
      gate.resolve();
      for (const spy of spies) spy.mockRestore();
      await journal.close();
    }
  });

  test("writes without being asked, within the commit window", async () => {
    const journal = await open({ group_commit_ms: 1 });
    journal.append(alive(1));
    while (journal.end().seq < 2) await new Promise((resolve) => setImmediate(resolve));
    await journal.close();
  });

  test("begins a new segment with the fold's state, reads only the last one at the start, and keeps the old", async () => {
    const first = await open({ segment_bytes_max: 2_000 });
    for (let i = 0; i < 100; i++) {
      first.append(node(i));
      if (i % 7 === 0) await first.durable();
    }
    await first.durable();
    const state = first.fold.checkpoint();
    await first.close();
    expect((await listSegments(dir)).length).toBeGreaterThan(5);
    const second = await open({ segment_bytes_max: 2_000 });
    expect(second.recovery.records_replayed).toBeLessThan(20);
    expect(second.fold.checkpoint()).toEqual(state);
    expect(await contents(second)).toEqual(Array.from({ length: 100 }, (_, i) => node(i)));
    await second.close();
  });

  test("removes the oldest segments beyond the retention limit, never one that is yet to be shipped", async () => {
    const journal = await open({ segment_bytes_max: 2_000, retain_bytes_max: 5_000 });
    for (let i = 0; i < 100; i++) journal.append(alive(i));
    await journal.durable();
    const before = await listSegments(dir);
    await journal.prune(beginningOf(before[1]!));
    expect(await listSegments(dir)).toEqual(before.slice(1));
    await journal.prune(journal.end());
    expect((await listSegments(dir)).length).toBeLessThan(4);
    await journal.close();
  });
});

describe("after a crash", () => {
  async function written(count: number): Promise<{ path: string; bytes: number }> {
    const journal = await open();
    for (let i = 0; i < count; i++) journal.append(node(i));
    await journal.durable();
    await journal.close();
    return { path: segmentPath(dir, 1), bytes: (await readFile(segmentPath(dir, 1))).length };
  }

  test("a tail torn at any byte is cut off, reported, and written over", async () => {
    const { path, bytes } = await written(3);
    const text = await readFile(path);
    const last = text.lastIndexOf(10, bytes - 2) + 1;
    for (let cut = last + 1; cut < bytes; cut += 5) {
      await writeFile(path, text);
      await truncate(path, cut);
      const journal = await open();
      expect(journal.recovery).toEqual({ torn: { file: path, bytes: cut - last }, records_replayed: 2 });
      journal.append(node(99));
      await journal.durable();
      expect(await contents(journal)).toEqual([node(0), node(1), node(99)]);
      await journal.close();
    }
  });

  test("zeros behind the last line, as a power cut leaves them, are a torn tail", async () => {
    const { path } = await written(3);
    await appendFile(path, Buffer.alloc(4_096));
    const journal = await open();
    expect(journal.recovery).toEqual({ torn: { file: path, bytes: 4_096 }, records_replayed: 3 });
    await journal.close();
  });

  test("a segment whose head was torn never began", async () => {
    await written(3);
    await writeFile(segmentPath(dir, 5), encodeLine(5, node(1)).slice(0, 20));
    const journal = await open();
    expect(journal.recovery.torn?.file).toBe(segmentPath(dir, 5));
    expect(await contents(journal)).toEqual([node(0), node(1), node(2)]);
    await journal.close();
  });

  test("a line damaged in the middle is an error that names file and line", async () => {
    const { path } = await written(5);
    const lines = (await readFile(path, "utf8")).split("\n");
    lines[2] = lines[2]!.replace('"gpus":4', '"gpus":8');
    await writeFile(path, lines.join("\n"));
    await expect(open()).rejects.toThrow(`journal ${path} line 3 does not match its checksum`);
  });

  test("a line that is missing in the middle is an error", async () => {
    const { path } = await written(5);
    const lines = (await readFile(path, "utf8")).split("\n");
    lines.splice(3, 1);
    await writeFile(path, lines.join("\n"));
    await expect(open()).rejects.toThrow(`journal ${path} line 4 has number 5, not 4`);
  });

  test("another cell's journal is refused", async () => {
    await written(1);
    await expect(open({ cell: asId<"cell">("cell_other") })).rejects.toThrow("is of cell cell_journal, not cell_other");
  });
});

test("a full disk fails the journal for good: durable rejects, the owner is told once, the next start has all that was durable", async () => {
  const child = fileURLToPath(new URL("./full-disk.test-child.ts", import.meta.url));
  // A limit on file size makes write(2) fail as a full disk does, in a process of its own.
  const { stdout } = await promisify(execFile)("sh", ["-c", `ulimit -f 16; exec "${process.execPath}" "${child}" "${dir}"`]);
  const report = JSON.parse(stdout) as { durable: number; failures: string[]; rejected: string; state: string; after: string };
  expect(report).toMatchObject({ state: "failed", after: "rejected" });
  expect(report.failures).toHaveLength(1);
  expect(report.rejected).toContain("EFBIG");
  const journal = await open();
  expect((await contents(journal)).length).toBeGreaterThanOrEqual(report.durable);
  expect(report.durable).toBeGreaterThan(10);
  await journal.close();
});
