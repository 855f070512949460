/** Each rule of records.ts, shown on the smallest sequence of records that it takes. */
import { describe, expect, test } from "vitest";
import { asId } from "../../../schema/core/ids.ts";
import { NANOS_PER_MINUTE, nanos } from "../../../schema/core/time.ts";
import type { UsageEvent } from "../../../schema/core/wire/usage.ts";
import { createFold } from "./fold.ts";
import type { FoldOutput } from "./outputs.ts";
import { reconcile } from "./reconcile.ts";
import type { MeteringRecord } from "./records.ts";
import { CELL, tags } from "./sequences.test-support.ts";

const T0 = 1_795_000_020_000_000_000n; // a UTC minute
const [NODE, GROUP] = [asId<"node">("node1"), asId<"group">("grp1")];
const [I1, I2] = [asId<"instance">("ins1"), asId<"instance">("ins2")];
const leg = (name: string) => asId<"leg">(name);
const call = (name: string) => asId<"call">(name);
const at = (offset: number) => ({ t: nanos(T0 + BigInt(offset)) });

const boot = (t: number): MeteringRecord => ({ type: "boot", ...at(t), cell: CELL, epoch: 1, boot_id: `b${t}` });
const cut = (t: number): MeteringRecord => ({ type: "cut", ...at(t) });
const provisioned = (t: number, gpus = 4, from = t, provision_id = "prov1"): MeteringRecord => ({
  type: "node_provisioned",
  ...at(t),
  node: NODE,
  gpus,
  at: at(from).t,
  provision_id,
});
const released = (t: number, when = t, provision_id = "prov1"): MeteringRecord => ({
  type: "node_released",
  ...at(t),
  node: NODE,
  at: at(when).t,
  provision_id,
});
const started = (t: number): MeteringRecord => ({
  type: "group_started",
  ...at(t),
  group: GROUP,
  node: NODE,
  gpu_indices: [0, 1, 2],
  instances: [
    { instance: I1, gpu_indices: [0] },
    { instance: I2, gpu_indices: [1, 2] },
  ],
});
const ended = (t: number): MeteringRecord => ({ type: "group_ended", ...at(t), group: GROUP, reason: "stopped" });
type State = Extract<MeteringRecord, { type: "instance_state" }>["state"];
const state = (t: number, instance: typeof I1, now: State): MeteringRecord => ({ type: "instance_state", ...at(t), instance, state: now });
const accepted = (t: number, name: string): MeteringRecord => ({
  type: "call_accepted",
  ...at(t),
  call: call(name),
  tags: tags(`ten_${name}`),
});
const joined = (t: number, name: string, of: string, weight: number, instance = I1, role: "prefill" | "decode" | "whole" = "decode") =>
  ({ type: "leg_joined", ...at(t), leg: leg(name), call: call(of), instance, role, weight }) as const;
const holding = (t: number, name: string, weight: number): MeteringRecord => ({ type: "leg_holding", ...at(t), leg: leg(name), weight });
const left = (t: number, name: string): MeteringRecord => ({ type: "leg_left", ...at(t), leg: leg(name) });
const done = (t: number, name: string): MeteringRecord => ({
  type: "call_ended",
  ...at(t),
  call: call(name),
  outcome: "done",
  code: null,
  tokens: { prompt: 10, cached: 4, completion: 3 },
});

function fold(...records: MeteringRecord[]): FoldOutput[] {
  const whole = createFold(CELL);
  return records.flatMap((record) => whole.apply(record));
}
const rows = (outputs: readonly FoldOutput[]): UsageEvent[] => outputs.flatMap((o) => (o.type === "usage" ? [o.event] : []));
const anomalies = (outputs: readonly FoldOutput[]): string[] => outputs.flatMap((o) => (o.type === "anomaly" ? [o.detail] : []));
/** [who, from, to, quantity], times as offsets. */
const told = (outputs: readonly FoldOutput[]) =>
  rows(outputs)
    .filter((row) => row.kind === "gpu_time")
    .map((row) => [
      `${row.instance ?? row.group ?? "node"} ${row.leg === undefined ? row.cost_centre : `${row.leg} ${row.leg_state}`}`,
      Number(BigInt(row.from_ns) - T0),
      Number(BigInt(row.to_ns) - T0),
      Number(row.quantity),
    ]);
const READY = [boot(0), provisioned(0), started(0), state(0, I1, "ready"), state(0, I2, "ready")];

describe("GPUs without a call", () => {
  test("of a node without a group are unassigned from the node's own instant on", () => {
    expect(told(fold(boot(0), provisioned(10, 4, 3), cut(20)))).toEqual([["node unassigned", 3, 20, 68]]);
  });

  test("are loading from the group's start to each instance's first ready, then idle; GPU 3 stays unassigned", () => {
    const outputs = fold(boot(0), provisioned(0), started(10), state(30, I1, "ready"), state(50, I2, "ready"), cut(100));
    expect(told(outputs)).toEqual([
      ["node unassigned", 0, 100, 40 + 90],
      ["ins1 loading", 10, 30, 20],
      ["ins1 idle", 30, 100, 70],
      ["ins2 loading", 10, 50, 80],
      ["ins2 idle", 50, 100, 100],
    ]);
  });

  test("sleeping is idle; waking, draining and lost are named", () => {
    const outputs = fold(
      ...READY,
      state(10, I1, "sleeping"),
      state(20, I1, "waking"),
      state(30, I1, "draining"),
      state(40, I1, "lost"),
      cut(50),
    );
    expect(told(outputs).filter(([who]) => String(who).startsWith("ins1"))).toEqual([
      ["ins1 idle", 0, 20, 20],
      ["ins1 waking", 20, 30, 10],
      ["ins1 draining", 30, 40, 10],
      ["ins1 lost", 40, 50, 10],
    ]);
  });

  test("in the group but in none of its instances are idle, the group's", () => {
    const alone: MeteringRecord = { type: "group_started", ...at(0), group: GROUP, node: NODE, gpu_indices: [0, 1], instances: [] };
    expect(told(fold(boot(0), provisioned(0, 2), alone, cut(10)))).toEqual([["grp1 idle", 0, 10, 20]]);
  });

  test("return to the node when the group ends", () => {
    expect(told(fold(...READY, ended(10), cut(30)))).toEqual([
      ["ins1 idle", 0, 10, 10],
      ["ins2 idle", 0, 10, 20],
      ["node unassigned", 0, 30, 10 + 80],
    ]);
  });
});

describe("legs", () => {
  test("share an instance's time by weight, to the nanosecond, largest remainder first, ties by id", () => {
    const outputs = fold(
      ...READY,
      accepted(0, "a"),
      accepted(0, "b"),
      joined(10, "b.0", "b", 1, I2),
      joined(20, "a.0", "a", 1, I2),
      left(25, "b.0"),
      left(30, "a.0"),
      cut(40),
    );
    expect(told(outputs).filter(([who]) => String(who).startsWith("ins2"))).toEqual([
      ["ins2 b.0 decode", 10, 25, 20 + 5],
      ["ins2 a.0 decode", 20, 30, 5 + 10],
      ["ins2 idle", 0, 40, 20 + 20],
    ]);
    const odd = fold(...READY, accepted(0, "a"), accepted(0, "b"), joined(0, "b.0", "b", 1), joined(0, "a.0", "a", 1), cut(7));
    expect(told(odd).filter(([who]) => String(who).includes("decode"))).toEqual([
      ["ins1 b.0 decode", 0, 7, 3],
      ["ins1 a.0 decode", 0, 7, 4],
    ]);
  });

  test("that finished prefill hold their KV, with another weight, in rows of their own, until they leave", () => {
    const outputs = fold(
      ...READY,
      accepted(0, "a"),
      accepted(0, "b"),
      joined(0, "a.0", "a", 10, I1, "prefill"),
      holding(10, "a.0", 1),
      joined(10, "b.0", "b", 9, I1, "prefill"),
      left(30, "a.0"),
      left(40, "b.0"),
      cut(40),
    );
    expect(told(outputs).filter(([who]) => String(who).startsWith("ins1"))).toEqual([
      ["ins1 a.0 prefill", 0, 10, 10],
      ["ins1 a.0 holding", 10, 30, 2],
      ["ins1 b.0 prefill", 10, 40, 18 + 10],
    ]);
  });

  test("pay on a draining instance, not on one that is asleep or lost", () => {
    const outputs = fold(...READY, accepted(0, "a"), joined(0, "a.0", "a", 5), state(10, I1, "draining"), state(20, I1, "lost"), cut(30));
    expect(told(outputs).filter(([who]) => String(who).startsWith("ins1"))).toEqual([
      ["ins1 a.0 decode", 0, 20, 20],
      ["ins1 lost", 20, 30, 10],
    ]);
  });

  test("may outlive their call: KV held after a cancel is still its call's", () => {
    const outputs = fold(
      ...READY,
      accepted(0, "a"),
      joined(0, "a.0", "a", 5, I1, "prefill"),
      holding(5, "a.0", 1),
      done(10, "a"),
      left(25, "a.0"),
    );
    expect(told(outputs)).toContainEqual(["ins1 a.0 holding", 5, 25, 20]);
    expect(rows(outputs).find((row) => row.leg_state === "holding")).toMatchObject({ tenant: "ten_a", call: "a" });
    expect(anomalies(outputs)).toEqual([]);
  });

  test("whose group ended use nothing until they leave", () => {
    const outputs = fold(...READY, accepted(0, "a"), joined(0, "a.0", "a", 5), ended(10), left(20, "a.0"), done(20, "a"), cut(30));
    expect(told(outputs)).toContainEqual(["ins1 a.0 decode", 0, 10, 10]);
    expect(told(outputs)).toContainEqual(["node unassigned", 0, 30, 10 + 80]);
    expect(anomalies(outputs)).toEqual([]);
  });
});

describe("rows", () => {
  test("end at each UTC minute and at each cut", () => {
    const minute = Number(NANOS_PER_MINUTE);
    const outputs = fold(boot(0), provisioned(minute - 10, 1), cut(minute + 5), cut(minute + 9), cut(2 * minute));
    expect(told(outputs)).toEqual([
      ["node unassigned", minute - 10, minute, 10],
      ["node unassigned", minute, minute + 5, 5],
      ["node unassigned", minute + 5, minute + 9, 4],
      ["node unassigned", minute + 9, 2 * minute, minute - 9],
    ]);
    expect(outputs.filter((o) => o.type === "watermark").map((o) => Number(o.t - T0))).toEqual([minute + 5, minute + 9, 2 * minute]);
  });

  test("of a node that was announced late are split at the cuts that were before", () => {
    expect(told(fold(boot(0), cut(10), cut(20), provisioned(25, 1, 5), cut(30)))).toEqual([
      ["node unassigned", 5, 10, 5],
      ["node unassigned", 10, 20, 10],
      ["node unassigned", 20, 30, 10],
    ]);
  });

  test("have ids in which no two different parts run together: ('b-c','d') is not ('b','c-d')", () => {
    const [first, second] = [asId<"instance">("b-c"), asId<"instance">("b")];
    const both: MeteringRecord = {
      type: "group_started",
      ...at(0),
      group: GROUP,
      node: NODE,
      gpu_indices: [0, 1],
      instances: [
        { instance: first, gpu_indices: [0] },
        { instance: second, gpu_indices: [1] },
      ],
    };
    const outputs = fold(
      boot(0),
      provisioned(0, 2),
      both,
      state(0, first, "ready"),
      state(0, second, "ready"),
      accepted(0, "a"),
      joined(0, "d", "a", 1, first),
      joined(0, "c-d", "a", 1, second),
      cut(10),
    );
    const ids = rows(outputs).map((row) => row.id);
    expect(ids.length).toBe(2);
    expect(new Set(ids).size).toBe(2);
  });
});

describe("calls", () => {
  test("give their row and their tokens, once, with every tag, in the nanosecond that ended them", () => {
    const outputs = fold(...READY, accepted(3, "a"), joined(5, "a.0", "a", 1, I1, "prefill"), left(8, "a.0"), done(9, "a"));
    const [ended_call] = outputs.filter((o) => o.type === "call");
    expect(ended_call).toMatchObject({ row: { call_id: "a", tenant: "ten_a", accepted_at: T0 + 3n, ended_at: T0 + 9n, outcome: "done" } });
    expect(ended_call).toMatchObject({ gpu_time: { prefill_gpu_ns: 3n, decode_gpu_ns: 0n } });
    expect(rows(outputs).filter((row) => row.kind === "tokens")).toEqual([
      expect.objectContaining({
        source: "gateway",
        from_ns: String(T0 + 8n),
        to_ns: String(T0 + 9n),
        quantity: "13",
        tokens: { prompt: 10, cached: 4, completion: 3 },
        tenant: "ten_a",
        agent: "router",
        model: "llama-3-8b",
      }),
    ]);
  });

  test("that a boot left open stay open, and can be ended and run again", () => {
    const whole = createFold(CELL);
    const before = [...READY, accepted(1, "a"), joined(2, "a.0", "a", 1), accepted(2, "b"), done(3, "b")];
    for (const record of before) whole.apply(record);
    expect(anomalies(whole.apply(boot(10)))).toEqual([]);
    expect(whole.open_calls()).toEqual(["a"]);
    const outputs = [done(11, "a"), accepted(12, "a"), done(13, "a")].flatMap((record) => whole.apply(record));
    expect(anomalies(outputs)).toEqual([]);
    expect(new Set(rows(outputs).map((row) => row.id)).size).toBe(2);
  });
});

describe("a boot after other records", () => {
  test("puts the gap on lost, ends the legs, and GPUs stay lost until their node is stated again", () => {
    const outputs = fold(
      ...READY,
      accepted(0, "a"),
      joined(0, "a.0", "a", 1),
      { type: "alive", ...at(10) },
      boot(50),
      provisioned(60, 4, 0),
      cut(80),
    );
    expect(told(outputs)).toEqual([
      ["node unassigned", 0, 10, 10],
      ["ins1 a.0 decode", 0, 10, 10],
      ["ins2 idle", 0, 10, 20],
      ["node lost", 10, 60, 200],
      ["node unassigned", 60, 80, 80],
    ]);
    expect(anomalies(outputs)).toEqual([]);
  });

  test("a group on the node states the node, too", () => {
    const outputs = fold(...READY, boot(50), started(60), state(60, I1, "ready"), cut(80));
    expect(told(outputs)).toContainEqual(["node lost", 0, 60, 240]);
    expect(told(outputs)).toContainEqual(["ins1 idle", 60, 80, 20]);
  });

  test("a node that was released while nobody looked is lost up to its release, without a correction", () => {
    const outputs = fold(...READY, { type: "alive", ...at(10) }, boot(50), released(51, 30), cut(80));
    expect(told(outputs)).toContainEqual(["node lost", 10, 30, 80]);
    expect(told(outputs).every(([, , , quantity]) => Number(quantity) > 0)).toBe(true);
  });
});

describe("a release", () => {
  test("ends the node's time at its own instant", () => {
    const outputs = fold(...READY, released(30), cut(50));
    expect(told(outputs)).toEqual([
      ["node unassigned", 0, 30, 30],
      ["ins1 idle", 0, 30, 30],
      ["ins2 idle", 0, 30, 60],
    ]);
  });

  test("before time already metered is corrected by negative rows on lost, split at cuts", () => {
    const outputs = fold(...READY, cut(20), cut(30), released(40, 10), cut(50));
    const corrections = told(outputs).filter(([, , , quantity]) => Number(quantity) < 0);
    expect(corrections).toEqual([
      ["node lost", 10, 20, -40],
      ["node lost", 20, 30, -40],
    ]);
    expect(anomalies(outputs)).toEqual([]);
    const provisions = outputs.flatMap((o) => (o.type === "provision" ? [o.provision] : []));
    expect(reconcile(provisions.slice(-1), rows(outputs), 0n, T0 + 50n)).toMatchObject({ difference_gpu_ns: 0n, metered_gpu_ns: 40n });
  });

  test("that lies ahead is waited for, and what runs until then is metered", () => {
    const outputs = fold(...READY, released(10, 25), cut(20), { type: "alive", ...at(40) }, cut(50));
    expect(told(outputs).filter(([who]) => who === "ins2 idle")).toEqual([
      ["ins2 idle", 0, 20, 40],
      ["ins2 idle", 20, 25, 10],
    ]);
    expect(anomalies(outputs)).toEqual([]);
  });

  test("stated again, or a released provision stated again, changes nothing", () => {
    const outputs = fold(...READY, released(10), released(12, 10), provisioned(15, 4, 0), cut(20));
    expect(told(outputs).length).toBe(3);
    expect(anomalies(outputs)).toEqual([]);
  });

  test("and the next provision of the same node are two stretches", () => {
    const outputs = fold(boot(0), provisioned(0, 1), released(10), provisioned(20, 1, 18, "prov2"), cut(30));
    expect(told(outputs)).toEqual([
      ["node unassigned", 0, 10, 10],
      ["node unassigned", 18, 30, 12],
    ]);
  });
});

describe("what contradicts the state is reported, and time stays conserved", () => {
  const contradictions: [string, MeteringRecord[], RegExp][] = [
    ["a leg that nobody knows leaves", [left(5, "x.0")], /leg x\.0 left, but is not known/],
    ["it holds", [holding(5, "x.0", 1)], /leg x\.0 holds KV, but is not known/],
    ["a leg joins twice", [accepted(1, "a"), joined(2, "a.0", "a", 1), joined(3, "a.0", "a", 1)], /leg a\.0 joined again/],
    ["a leg joins for no call", [joined(5, "a.0", "a", 1)], /call a, which is not known/],
    ["a leg joins nowhere", [accepted(1, "a"), joined(5, "a.0", "a", 1, asId<"instance">("ins9"))], /ins9, which has no GPU/],
    ["a weight is no positive integer", [accepted(1, "a"), joined(5, "a.0", "a", 0.5)], /weight 0\.5/],
    ["a call ends that is not open", [done(5, "a")], /call a ended, but is not open/],
    ["a call is accepted twice", [accepted(5, "a"), accepted(6, "a")], /accepted again/],
    ["a group starts twice", [started(5)], /there already/],
    ["a group ends that is not known", [{ type: "group_ended", ...at(5), group: asId<"group">("grp9"), reason: "lost" }], /grp9 ended/],
    ["an instance is not known", [state(5, asId<"instance">("ins9"), "ready")], /ins9 is ready, but is not known/],
    ["a node releases what is not known", [released(5, 5, "prov9")], /prov9, which is not known/],
    ["a node is provisioned while it is", [provisioned(5, 4, 5, "prov2")], /provisioned again while prov1 is open/],
    ["a node has no GPUs", [provisioned(5, 0, 5, "prov2")], /0 GPUs/],
    ["a provision changes its size", [provisioned(5, 8, 0)], /stated again with another/],
    ["a provision ends before it began", [released(5, -7)], /released before it began/],
    ["time goes back", [cut(10), cut(9)], /goes back 1 ns/],
  ];
  test.each(contradictions)("%s", (_, records, expected) => {
    const outputs = fold(...READY, ...records, cut(20));
    expect(anomalies(outputs)).toEqual([expect.stringMatching(expected)]);
  });

  test("a GPU is in one group at a time", () => {
    const second: MeteringRecord = {
      type: "group_started",
      ...at(10),
      group: asId<"group">("grp2"),
      node: NODE,
      gpu_indices: [2, 3, 7],
      instances: [{ instance: asId<"instance">("ins3"), gpu_indices: [2, 3] }],
    };
    const outputs = fold(...READY, second, cut(20));
    expect(anomalies(outputs)).toEqual([expect.stringMatching(/taken or not there/), expect.stringMatching(/ins3 names GPUs/)]);
    expect(told(outputs)).toContainEqual(["ins3 loading", 10, 20, 10]);
  });

  test("token counts that cannot be are made possible: cached + uncached = prompt", () => {
    const wrong: MeteringRecord = {
      type: "call_ended",
      ...at(9),
      call: call("a"),
      outcome: "done",
      code: null,
      tokens: { prompt: 5, cached: 9, completion: -1 },
    };
    const outputs = fold(...READY, accepted(0, "a"), wrong);
    expect(anomalies(outputs)).toEqual([expect.stringMatching(/impossible token counts/)]);
    expect(rows(outputs).find((row) => row.kind === "tokens")?.tokens).toEqual({ prompt: 5, cached: 5, completion: 0 });
  });
});

describe("a release that is learnt of after a downtime of minutes", () => {
  const S = 1_000_000_000;
  const outputs = fold(
    boot(0),
    provisioned(0),
    { type: "alive", ...at(10 * S) },
    boot(290 * S),
    provisioned(290 * S, 4, 0),
    released(291 * S, 20 * S),
    cut(300 * S),
  );

  test("leaves each minute right by itself, and `lost` not below nothing", () => {
    const stated = outputs.flatMap((o) => (o.type === "provision" ? [o.provision] : [])).slice(-1);
    for (let minute = 0; minute < 5; minute++) {
      const from = T0 + BigInt(minute) * NANOS_PER_MINUTE;
      const { straddling, difference_gpu_ns, by_use } = reconcile(stated, rows(outputs), from, from + NANOS_PER_MINUTE);
      expect([minute, straddling, difference_gpu_ns, (by_use.get("lost") ?? 0n) >= 0n]).toEqual([minute, [], 0n, true]);
    }
  });

  test("takes out of the open minute what is open, and takes back by rows only what was given out", () => {
    const corrections = told(outputs).filter(([, , , quantity]) => Number(quantity) < 0);
    expect(corrections).toEqual([
      ["node lost", 20 * S, 60 * S, -160 * S],
      ["node lost", 60 * S, 120 * S, -240 * S],
      ["node lost", 120 * S, 180 * S, -240 * S],
      ["node lost", 180 * S, 240 * S, -240 * S],
    ]);
  });
});

describe("reconcile", () => {
  const outputs = fold(...READY, accepted(0, "a"), joined(5, "a.0", "a", 1), cut(10), cut(20));
  const provisions = outputs.flatMap((o) => (o.type === "provision" ? [o.provision] : []));

  test("finds every single row that is missing, by its quantity", () => {
    const all = rows(outputs);
    expect(reconcile(provisions, all, 0n, T0 + 20n).difference_gpu_ns).toBe(0n);
    for (const missing of all) {
      const { difference_gpu_ns } = reconcile(
        provisions,
        all.filter((row) => row !== missing),
        0n,
        T0 + 20n,
      );
      expect(difference_gpu_ns).toBe(-BigInt(missing.quantity));
    }
  });

  test("looks at any period that begins and ends at cuts, and names rows that cross its edges", () => {
    expect(reconcile(provisions, rows(outputs), T0 + 10n, T0 + 20n)).toMatchObject({ difference_gpu_ns: 0n, metered_gpu_ns: 40n });
    expect(reconcile(provisions, rows(outputs), T0 + 3n, T0 + 20n).straddling.length).toBeGreaterThan(0);
  });
});
