/** What the agent keeps on disk, opened again after every kind of end: its clock, its provisions, its fence. */
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { asId } from "../../schema/core/ids.ts";
import { nanos } from "../../schema/core/time.ts";
import { NodeClock } from "./clock.ts";
import { lockFolder } from "./durable.ts";
import { Fence } from "./fence.ts";
import { CELLS_REMEMBERED_MAX, PROVISIONS_REPORTED_MAX } from "./limits.ts";
import { ProvisionRecord } from "./provisions.ts";

let dir = "";
beforeEach(() => {
  dir = mkdtempSync(path.join(os.tmpdir(), "millrace-records-"));
});
afterEach(() => rmSync(dir, { recursive: true }));
const at = (name: string): string => path.join(dir, name);
const NODE = asId<"node">("node_test");

describe("the node's clock", () => {
  const sources = { wall_ms: 1_000, monotonic_ns: 500n };
  const open = (floor = 0n) =>
    new NodeClock(at("clock"), floor, { wall_ms: () => sources.wall_ms, monotonic_ns: () => sources.monotonic_ns });
  beforeEach(() => Object.assign(sources, { wall_ms: 1_000, monotonic_ns: 500n }));

  test("is the wall clock at start and the monotonic clock from then on, whatever the wall clock does", () => {
    const clock = open();
    expect(clock.now()).toBe(1_000_000_000n);
    sources.wall_ms = 0;
    sources.monotonic_ns += 7n;
    expect(clock.now()).toBe(1_000_000_007n);
    sources.wall_ms = 9e12;
    sources.monotonic_ns += 1n;
    expect(clock.now()).toBe(1_000_000_008n);
  });

  test("never stands still, even where the monotonic clock is coarse", () => {
    const clock = open();
    expect([clock.now(), clock.now(), clock.now()]).toEqual([1_000_000_000n, 1_000_000_001n, 1_000_000_002n]);
  });

  test("goes on after the last instant that was told, when it starts on a wall clock that went back", () => {
    const told = open().confirm();
    Object.assign(sources, { wall_ms: 5, monotonic_ns: 3n });
    expect(open().now()).toBeGreaterThan(told);
  });

  test("does not begin before any other record of the node", () => {
    expect(open(2_000_000_000n).now()).toBeGreaterThan(2_000_000_000n);
  });

  test("takes a file that is not its own for no record at all", () => {
    writeFileSync(at("clock"), "not an instant at all");
    expect(open().now()).toBe(1_000_000_000n);
  });
});

describe("the record of provisions", () => {
  const open = () => new ProvisionRecord(at("provisions.jsonl"), "test");

  test("goes on with the open one, and remembers the closed ones", () => {
    const first = open();
    first.begin("prv_1", NODE, 4, nanos(10n));
    first.end(nanos(20n), "released");
    first.begin("prv_2", NODE, 4, nanos(30n));
    const again = open();
    expect(again.open).toEqual({
      provision_id: "prv_2",
      node_id: NODE,
      gpus: 4,
      provisioned_at: 30n,
      released_at: null,
      reported_by: "test",
    });
    expect(again.recent()).toEqual(first.recent());
    expect(again.recent().map(({ released_at }) => released_at)).toEqual([20n, null]);
    expect(again.last_instant).toBe(30n);
  });

  test("cuts off a line whose writing was cut short, and writes on behind it", () => {
    open().begin("prv_1", NODE, 4, nanos(10n));
    const whole = readFileSync(at("provisions.jsonl"), "utf8");
    for (const torn of ['{"type":"clo', '{"type":"closed","provision_id":"prv_1","released_at":"20","reason":""}', "\u0000\u0000"]) {
      appendFileSync(at("provisions.jsonl"), torn);
      expect(open().open?.provision_id).toBe("prv_1");
      expect(readFileSync(at("provisions.jsonl"), "utf8")).toBe(whole);
    }
    open().end(nanos(20n), "released");
    expect(open().open).toBeNull();
  });

  test("opens nothing that has other damage", () => {
    open().begin("prv_1", NODE, 4, nanos(10n));
    const whole = readFileSync(at("provisions.jsonl"), "utf8");
    for (const damage of ["not json\n", "{}\n", '{"type":"closed","provision_id":"prv_other","released_at":"20","reason":""}\n']) {
      writeFileSync(at("provisions.jsonl"), whole + damage);
      expect(open).toThrow();
    }
  });

  test("has one open provision at most, and names a bounded number", () => {
    const record = open();
    expect(() => record.end(nanos(1n), "none")).toThrow("no provision is open");
    for (let n = 0; n < PROVISIONS_REPORTED_MAX * 2; n++) {
      record.begin(`prv_${n}`, NODE, 1, nanos(BigInt(n) * 2n));
      expect(() => record.begin("prv_more", NODE, 1, nanos(0n))).toThrow("is open");
      expect(record.recent().length).toBeLessThanOrEqual(PROVISIONS_REPORTED_MAX);
      expect(record.recent().at(-1)?.provision_id).toBe(`prv_${n}`);
      record.end(nanos(BigInt(n) * 2n + 1n), "next");
    }
    expect(open().recent()).toEqual(record.recent());
  });
});

describe("the fence (I13)", () => {
  const open = () => new Fence(at("owner.json"));
  const by = (cell: string, epoch: number) => ({ cell, epoch });

  test("takes newer epochs and refuses older ones, also after a restart", () => {
    expect(open().take(by("a", 3), 1_000)).toBeNull();
    const again = open();
    expect(again.holder).toEqual({ cell: "a", epoch: 3, lease_ms: 1_000 });
    expect(again.pass(by("a", 2))).toMatchObject({ code: "stale_epoch", current_epoch: 3 });
    expect(again.pass(by("a", 3))).toBeNull();
    expect(again.pass(by("a", 4))).toBeNull();
    expect(open().take(by("a", 3), 1_000)).toMatchObject({ code: "stale_epoch", current_epoch: 4 });
  });

  test("remembers a cell's epoch through another cell's turn", () => {
    const fence = open();
    fence.take(by("a", 5), 1_000);
    expect(fence.take(by("b", 1), 1_000)).toMatchObject({ code: "node_claimed" });
    fence.clear();
    expect(fence.pass(by("a", 5))).toMatchObject({ code: "not_claimed" });
    expect(fence.take(by("b", 1), 1_000)).toBeNull();
    expect(fence.pass(by("a", 5))).toMatchObject({ code: "node_claimed" });
    fence.clear();
    expect(open().take(by("a", 4), 1_000)).toMatchObject({ code: "stale_epoch", current_epoch: 5 });
  });

  test("takes a bounded number of cells, and never forgets one to make room", () => {
    const fence = open();
    for (let n = 0; n < CELLS_REMEMBERED_MAX; n++) {
      expect(fence.take(by(`cell_${n}`, 2), 1_000)).toBeNull();
      fence.clear();
    }
    expect(fence.take(by("one_more", 2), 1_000)).toMatchObject({ code: "node_claimed" });
    expect(fence.take(by("cell_0", 1), 1_000)).toMatchObject({ code: "stale_epoch" });
    expect(fence.take(by("cell_0", 2), 1_000)).toBeNull();
  });
});

test("a state folder has one agent at a time", () => {
  const lock = lockFolder(dir);
  expect(lockFolder(dir)).toBeNull();
  lock?.release();
  const next = lockFolder(dir);
  expect(next).not.toBeNull();
  next?.release();
});
