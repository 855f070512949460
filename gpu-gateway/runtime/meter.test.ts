import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { asId, type NodeId } from "../../schema/core/ids.ts";
import { nanos, NANOS_PER_MINUTE, type Nanos } from "../../schema/core/time.ts";
import { reconcile } from "../policy/metering/reconcile.ts";
import { FileLedger } from "./file-ledger.test-support.ts";
import { beginningOf } from "./journal/segments.ts";
import { CALLS_PER_CUT_MAX, createMeter, type Meter, type MeterOptions } from "./meter.ts";
import { accept, announce, CELL, NODE, PROVISION, serve } from "./meter.test-support.ts";
import { createShipper } from "./shipper.ts";

const START = 1_795_000_020_000_000_000n;
const MS = 1_000_000n;

let dir = "";
let ledger: FileLedger;
let anomalies: string[] = [];
let clock = { wall: START, hr: 0n };
let renew: () => Promise<ReadonlyMap<NodeId, Nanos>>;

const open = (more: Partial<MeterOptions> = {}): Promise<Meter> =>
  createMeter({
    journal_dir: join(dir, "journal"),
    cell: CELL,
    epoch: 1,
    boot_id: "boot",
    startShipper: (parts) => createShipper({ ...parts, ledger }),
    renew: () => renew(),
    on_failure: (reason) => expect.unreachable(reason),
    on_anomaly: (detail) => void anomalies.push(detail),
    clock: { wall_now_ns: () => clock.wall, hrtime_ns: () => clock.hr },
    ...more,
  });
const pass = (ns: bigint): void => void (clock = { wall: clock.wall + ns, hr: clock.hr + ns });
const checked = () => reconcile(ledger.provisions.values(), ledger.usage.values(), 0n, ledger.watermark);
const settledAt = async (meter: Meter): Promise<Nanos> => {
  const outcome = await meter.settle();
  if (outcome.type !== "settled") return expect.unreachable(outcome.reason);
  return outcome.watermark;
};

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "millrace-meter-"));
  ledger = new FileLedger(join(dir, "ledger.ndjson"));
  anomalies = [];
  clock = { wall: START, hr: 0n };
  renew = () => Promise.resolve(new Map([[NODE, nanos(clock.wall)]]));
});
afterEach(async () => {
  vi.useRealTimers();
  await rm(dir, { recursive: true });
});

describe("the meter", () => {
  test("settles: rows, calls and provisions are in the ledger, complete up to the watermark, and reconcile", async () => {
    const meter = await open();
    announce(meter, nanos(START));
    pass(20n * MS);
    accept(meter, "call_1");
    await meter.durable();
    serve(meter, "call_1");
    pass(40n * MS);
    const watermark = await settledAt(meter);
    expect(ledger.watermark).toBe(watermark);
    expect(checked()).toMatchObject({ difference_gpu_ns: 0n, straddling: [] });
    expect(checked().metered_gpu_ns).toBe((watermark - START) * 4n);
    expect([...ledger.calls.values()]).toMatchObject([{ call_id: "call_1", outcome: "done" }]);
    expect(anomalies).toEqual([]);
    await meter.close();
  });

  test("cuts when CALLS_PER_CUT_MAX have ended, however long `usage_cut_ms` is", async () => {
    const meter = await open({ usage_cut_ms: 60_000 });
    announce(meter, nanos(START));
    const serveUpTo = (from: number, to: number) => {
      for (let i = from; i < to; i++) {
        accept(meter, `call_${i}`);
        serve(meter, `call_${i}`);
      }
    };
    serveUpTo(0, CALLS_PER_CUT_MAX - 1);
    expect(ledger.watermark).toBe(0n);
    serveUpTo(CALLS_PER_CUT_MAX - 1, CALLS_PER_CUT_MAX);
    await vi.waitUntil(() => ledger.watermark > 0n, { timeout: 10_000 });
    expect(ledger.calls.size).toBe(CALLS_PER_CUT_MAX);
    await meter.close();
  });

  test("stamps strictly rising instants, whatever the clock does", async () => {
    const meter = await open();
    const stamps = [meter.now()];
    for (let i = 0; i < 50; i++) {
      if (i === 20) pass(5n * MS);
      if (i === 30) clock = { ...clock, wall: START - NANOS_PER_MINUTE };
      stamps.push(meter.record({ type: "call_accepted", call: asId<"call">(`call_${i}`), tags: {} as never }));
    }
    for (const [i, t] of stamps.entries()) expect(t > (stamps[i - 1] ?? 0n)).toBe(true);
    await meter.close();
  });

  test("begins after the last journalled instant when the wall clock has gone back", async () => {
    const first = await open();
    announce(first, nanos(START));
    pass(900n * MS);
    const t = await first.cut();
    await first.close();
    clock = { wall: START - 3_600_000n * MS, hr: 0n };
    const second = await open();
    expect(second.now() > t).toBe(true);
    announce(second, nanos(START));
    await settledAt(second);
    expect(checked().difference_gpu_ns).toBe(0n);
    await second.close();
  });

  test("names the calls that an earlier boot left open, and what is between is lost", async () => {
    const first = await open();
    announce(first, nanos(START));
    accept(first, "call_left");
    accept(first, "call_done");
    serve(first, "call_done");
    await first.durable();
    await first.close();
    pass(7_000n * MS);
    const second = await open();
    expect(second.open_calls).toEqual(["call_left"]);
    announce(second, nanos(START));
    second.record({
      type: "call_ended",
      call: asId<"call">("call_left"),
      outcome: "failed",
      code: "gateway_lost",
      tokens: { prompt: 0, cached: 0, completion: 0 },
    });
    await settledAt(second);
    expect(checked().difference_gpu_ns).toBe(0n);
    // The line moves on by a nanosecond a record while the clock stands still, so not to the nanosecond here.
    expect((checked().by_use.get("lost") ?? 0n) / MS).toBe(27_999n);
    expect(ledger.calls.size).toBe(2);
    await second.close();
    expect((await open().then(async (third) => [third.open_calls, await third.close()]))[0]).toEqual([]);
  });

  test("of a call that a crash left open it knows what was noted last, also across segments; of one that was never noted, nothing", async () => {
    const first = await open({ segment_bytes_max: 2_000 });
    announce(first, nanos(START));
    for (const call of ["call_noted", "call_silent"]) accept(first, call);
    const note = (completion: number) =>
      first.record({ type: "calls_progressed", calls: [{ call: asId<"call">("call_noted"), prompt: 7, cached: 3, completion }] });
    note(4);
    note(9);
    for (let i = 0; i < 20; i++) first.record({ type: "leg_left", leg: asId<"leg">(`unknown_${i}`) });
    await first.close();
    anomalies = [];
    const second = await open();
    expect(second.open_calls.map((call) => [call, second.tokens_sent(call)])).toEqual([
      ["call_noted", { prompt: 7, cached: 3, completion: 9 }],
      ["call_silent", { prompt: 0, cached: 0, completion: 0 }],
    ]);
    expect(anomalies).toEqual([]);
    await second.close();
  });

  test("a node that was released before the cut is known, and corrected, before the cut's rows count", async () => {
    const meter = await open();
    announce(meter, nanos(START));
    pass(1_000n * MS);
    renew = () => {
      meter.record({ type: "node_released", node: NODE, at: nanos(START + 600n * MS), provision_id: PROVISION });
      return Promise.resolve(new Map());
    };
    await settledAt(meter);
    expect(ledger.shipments.length).toBe(1);
    expect(checked()).toMatchObject({ difference_gpu_ns: 0n, provisioned_gpu_ns: 600n * MS * 4n });
    expect([...ledger.usage.values()].filter((row) => row.quantity.startsWith("-")).map((row) => row.cost_centre)).toEqual(["lost"]);
    await meter.close();
  });

  test("knows what a call used while it runs, after it ended, and not for ever", async () => {
    const meter = await open();
    announce(meter, nanos(START));
    accept(meter, "call_1");
    meter.record({
      type: "leg_joined",
      leg: asId<"leg">("call_1.0.whole"),
      call: asId<"call">("call_1"),
      instance: asId<"instance">("ins_decode"),
      role: "whole",
      weight: 5,
    });
    pass(3n * MS);
    meter.record({ type: "leg_left", leg: asId<"leg">("call_1.0.whole") });
    const used = meter.call_meter(asId<"call">("call_1"));
    expect(used?.prefill_gpu_ns).toBe(0n);
    // Two GPUs, 3 ms; nanoseconds are off because the line moves on by one a record while the clock stands still.
    expect((used!.decode_gpu_ns + 100n) / MS).toBe(6n);
    meter.record({
      type: "call_ended",
      call: asId<"call">("call_1"),
      outcome: "done",
      code: null,
      tokens: { prompt: 1, cached: 0, completion: 1 },
    });
    expect(meter.call_meter(asId<"call">("call_1"))).toEqual(used);
    expect(meter.call_meter(asId<"call">("call_2"))).toBeUndefined();
    await meter.close();
  });

  test("says that it lives when nothing happens, cuts at each UTC minute, and soon after a call ended", async () => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    const meter = await open();
    announce(meter, nanos(START));
    const tick = async (ns: bigint): Promise<void> => {
      pass(ns);
      vi.advanceTimersByTime(250);
      await meter.durable();
    };
    const before = meter.now();
    await tick(400n * MS);
    expect(anomalies).toEqual([]);
    accept(meter, "call_1");
    serve(meter, "call_1");
    await tick(4_900n * MS);
    await vi.waitUntil(() => ledger.watermark > before);
    await tick(NANOS_PER_MINUTE);
    await vi.waitUntil(() => ledger.watermark > before + NANOS_PER_MINUTE);
    expect(checked().difference_gpu_ns).toBe(0n);
    await meter.close();
    const { openJournal } = await import("./journal/journal.ts");
    const journal = await openJournal({ dir: join(dir, "journal"), cell: CELL, on_failure: () => undefined });
    const types: string[] = [];
    for await (const { record } of journal.read(beginningOf(1), journal.end())) types.push(record.type);
    expect(types.filter((type) => type === "alive" || type === "cut")).toEqual(["alive", "cut", "cut", "cut"]);
    await journal.close();
  });
});

describe("when the process stood still for longer than its lease", () => {
  const STALL_MS = 2_000;
  const decode = { leg: asId<"leg">("call_1.0.whole"), call: asId<"call">("call_1") };
  const busyWorld = async (on_stall: (reason: string) => void): Promise<Meter> => {
    const meter = await open({ stall_ms_max: STALL_MS, on_stall });
    announce(meter, nanos(START));
    accept(meter, "call_1");
    meter.record({ type: "leg_joined", ...decode, instance: asId<"instance">("ins_decode"), role: "whole", weight: 5 });
    pass(1_000n * MS);
    renew = () => Promise.resolve(new Map([[NODE, nanos(clock.wall + MS)]]));
    await meter.cut();
    return meter;
  };
  const journalled = async (): Promise<string[]> => {
    const { openJournal } = await import("./journal/journal.ts");
    const journal = await openJournal({ dir: join(dir, "journal"), cell: CELL, on_failure: () => undefined });
    const types: string[] = [];
    for await (const { record } of journal.read(beginningOf(1), journal.end())) types.push(record.type);
    await journal.close();
    return types;
  };

  test.each(["a tick's cut", "what the runtime records"])(
    "%s comes after the gap is on `lost`: its calls do not pay for it",
    async (first) => {
      vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
      const stalls: string[] = [];
      const meter = await busyWorld((reason) => void stalls.push(reason));
      const paid = meter.call_meter(decode.call);
      // The node gave its GPUs back when the lease ran out; the stopped process learns of it at the cut.
      const released_at = START + 1_000n * MS + BigInt(STALL_MS) * MS;
      renew = () => {
        meter.record({ type: "node_released", node: NODE, at: nanos(released_at), provision_id: PROVISION });
        return Promise.resolve(new Map());
      };
      pass(200_000n * MS);
      if (first === "a tick's cut") vi.advanceTimersByTime(250);
      else meter.record({ type: "leg_left", leg: decode.leg });
      expect(meter.call_meter(decode.call)).toEqual(paid);
      const watermark = await settledAt(meter);
      expect(stalls).toEqual([expect.stringMatching(/stood still for (199999|200\d{3}) ms/)]);

      expect(checked()).toMatchObject({ difference_gpu_ns: 0n, straddling: [], provisioned_gpu_ns: (released_at - START) * 4n });
      const minute = START - (START % NANOS_PER_MINUTE);
      for (let from = minute; from + NANOS_PER_MINUTE <= watermark; from += NANOS_PER_MINUTE) {
        const { difference_gpu_ns, by_use } = reconcile(ledger.provisions.values(), ledger.usage.values(), from, from + NANOS_PER_MINUTE);
        expect([from, difference_gpu_ns, (by_use.get("lost") ?? 0n) >= 0n]).toEqual([from, 0n, true]);
      }
      // Two GPUs for the second before the gap; the nanoseconds are the line's, a record each.
      expect((checked().by_use.get("whole") ?? 0n) / MS).toBe(1_999n);
      expect((checked().by_use.get("lost") ?? 0n) / MS).toBe(BigInt(STALL_MS) * 4n - 1n);
      expect(anomalies).toEqual([]);
      await meter.close();
      vi.useRealTimers();
      const types = await journalled();
      expect(types.filter((type) => type === "boot")).toHaveLength(2);
      expect(types.lastIndexOf("boot")).toBeLessThan(types.indexOf("node_released"));
    },
  );

  test.each([
    { over: true, silence_ms: 1_001, lost: true },
    { over: true, silence_ms: 990, lost: false },
    { over: false, silence_ms: 1_900, lost: false },
  ])("$silence_ms ms of silence, and the lease over: $over; the gap on `lost`: $lost", async ({ over, silence_ms, lost }) => {
    const stalls: string[] = [];
    const meter = await open({ stall_ms_max: STALL_MS, lease_over: () => over, on_stall: (reason) => void stalls.push(reason) });
    announce(meter, nanos(START));
    pass(BigInt(silence_ms) * MS);
    await settledAt(meter);
    expect((checked().by_use.get("lost") ?? 0n) / MS).toBe(lost ? BigInt(silence_ms) * 4n - 1n : 0n);
    expect([checked().difference_gpu_ns, stalls.length]).toEqual([0n, lost ? 1 : 0]);
    await meter.close();
  });

  test("a silence as long as the bound is none", async () => {
    const stalls: string[] = [];
    const meter = await busyWorld((reason) => void stalls.push(reason));
    pass(BigInt(STALL_MS - 1) * MS);
    await settledAt(meter);
    expect((checked().by_use.get("lost") ?? 0n) / MS).toBe(0n);
    expect(checked().difference_gpu_ns).toBe(0n);
    expect(stalls).toEqual([]);
    await meter.close();
    expect((await journalled()).filter((type) => type === "boot")).toHaveLength(1);
  });
});

describe("when the ledger", () => {
  async function busy(meter: Meter, calls: number, from = 0): Promise<void> {
    for (let i = from; i < from + calls; i++) {
      accept(meter, `call_${i}`);
      pass(MS);
      serve(meter, `call_${i}`);
    }
    await meter.cut();
  }

  test("is down, shipping is behind and says so; when it is back, all is there, once, in shipments of bounded size", async () => {
    const meter = await open();
    announce(meter, nanos(START));
    ledger.fault = "down";
    for (let i = 0; i < 20; i++) await busy(meter, 300, i * 300);
    expect(await meter.settle()).toEqual({ type: "behind", watermark: null, reason: "down" });
    ledger.fault = null;
    await settledAt(meter);
    expect(checked().difference_gpu_ns).toBe(0n);
    expect([ledger.repeated, ledger.conflicts, ledger.calls.size]).toEqual([0, 0, 6_000]);
    expect(Math.max(...ledger.shipments.map((shipment) => shipment.rows))).toBeLessThan(5_000 + 100);
    expect(ledger.shipments.filter((shipment) => shipment.outcome === "stored").length).toBeGreaterThan(4);
    await meter.close();
  });

  test("stores but cannot say so, the same comes again and changes nothing", async () => {
    const meter = await open();
    announce(meter, nanos(START));
    ledger.fault = "stored_but_not_answered";
    await busy(meter, 50);
    expect((await meter.settle()).type).toBe("behind");
    ledger.fault = null;
    await settledAt(meter);
    expect(ledger.repeated).toBeGreaterThan(100);
    expect(ledger.conflicts).toBe(0);
    expect(checked().difference_gpu_ns).toBe(0n);
    await meter.close();
  });

  test("was behind when the gateway stopped, the next start ships the rest", async () => {
    const first = await open({ segment_bytes_max: 20_000 });
    announce(first, nanos(START));
    await busy(first, 100);
    await settledAt(first);
    ledger.fault = "down";
    await busy(first, 100, 100);
    await first.close();
    ledger.fault = null;
    pass(1_000n * MS);
    const second = await open({ segment_bytes_max: 20_000 });
    announce(second, nanos(START));
    await settledAt(second);
    expect([ledger.repeated, ledger.conflicts, ledger.calls.size]).toEqual([0, 0, 200]);
    expect(checked().difference_gpu_ns).toBe(0n);
    await second.close();
  });

  test.each(["gone", "cut short", "of another shape"])(
    "has everything, but the position is %s: all is shipped again, counted as repeats",
    async (how) => {
      const first = await open({ segment_bytes_max: 20_000 });
      announce(first, nanos(START));
      await busy(first, 100);
      await settledAt(first);
      await first.close();
      const position = join(dir, "journal", "shipped.json");
      if (how === "gone") await rm(position);
      else if (how === "cut short") await truncate(position, 40);
      else await writeFile(position, JSON.stringify({ format: 1, cell: CELL }));
      const before = new Map(ledger.usage);
      const second = await open({ segment_bytes_max: 20_000 });
      announce(second, nanos(START));
      await settledAt(second);
      expect(ledger.repeated).toBe(before.size);
      expect(ledger.conflicts).toBe(0);
      expect(checked().difference_gpu_ns).toBe(0n);
      await second.close();
    },
  );
});
