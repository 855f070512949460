import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { A100_FABRIC, TransferModel } from "./transfer.ts";
import type { Endpoint } from "./transfer.ts";

const fabric = { ...A100_FABRIC, handshake_us: 1_000 };
const instance = (node: number, first: number, tp: number): Endpoint => Array.from({ length: tp }, (_, i) => ({ node, gpu: first + i }));
/** Advances until nothing is under way; when each was over. */
function runOut(model: TransferModel): Map<string, number> {
  const ends = new Map<string, number>();
  for (let at = model.wake(); at !== null; at = model.wake()) for (const id of model.advance(at)) ends.set(id, at);
  return ends;
}

describe("KV transfers", () => {
  test("alone: a handshake, then the link's full rate; ranks in parallel over NVLink, together over the NIC", () => {
    const ends = (from: Endpoint, to: Endpoint) => {
      const model = new TransferModel(fabric);
      model.begin("a", from, to, 3e9, 0);
      return runOut(model).get("a");
    };
    expect(ends(instance(0, 0, 1), instance(0, 1, 1))).toBe(1_000 + 3e9 / 300_000);
    expect(ends(instance(0, 0, 4), instance(0, 4, 4))).toBe(1_000 + 3e9 / 1_200_000);
    expect(ends(instance(0, 0, 4), instance(1, 0, 4))).toBe(1_000 + 3e9 / 25_000);
    // Two ranks to one: what one GPU can take in.
    expect(ends(instance(0, 0, 2), instance(0, 2, 1))).toBe(1_000 + 3e9 / 300_000);
  });
  test("two into one GPU share its link, and the later one has it alone at last", () => {
    const model = new TransferModel(fabric);
    model.begin("a", instance(0, 0, 1), instance(0, 2, 1), 3e8, 0);
    model.begin("b", instance(0, 1, 1), instance(0, 2, 1), 6e8, 0);
    expect([...runOut(model)]).toEqual([
      ["a", 1_000 + 2_000],
      ["b", 1_000 + 3_000],
    ]);
  });
  test("max-min: who shares a full NIC leaves the rest of another link to those who can use it", () => {
    const model = new TransferModel(fabric);
    const ours = instance(0, 0, 1);
    model.begin("far", instance(1, 0, 1), ours, 1e9, 0);
    model.begin("far too", instance(1, 1, 1), instance(2, 0, 1), 1e9, 0);
    model.begin("near", instance(0, 1, 1), ours, 1e9, 0);
    model.advance(1_000);
    const loads = model.loads();
    expect(loads.get("nic out 1")).toBe(25_000);
    expect(loads.get("nic in 0")).toBe(12_500);
    expect(loads.get("nvlink in 0.0")).toBe(300_000); // what comes by NIC does not come by NVLink
  });
  test("a transfer that is cancelled gives its share to the others at once", () => {
    const model = new TransferModel(fabric);
    for (const id of ["a", "b"]) model.begin(id, instance(0, 0, 1), instance(1, 0, 1), 25_000_000, 0);
    model.advance(2_000);
    expect(model.cancel("a", 2_000)).toBe(true);
    expect(model.cancel("a", 2_000)).toBe(false);
    expect(runOut(model)).toEqual(new Map([["b", 2_500]]));
  });
  test("asked late, it says the same", () => {
    const late = new TransferModel(fabric);
    for (const [id, bytes] of [["a", 3e8] as const, ["b", 6e8] as const]) late.begin(id, instance(0, 0, 1), instance(0, 2, 1), bytes, 0);
    late.begin("c", instance(0, 1, 1), instance(0, 2, 1), 3e8, 3_500); // a is over, b has 0.75e8 to go
    expect(late.left("a")).toBe(0);
    expect(late.advance(3_500)).toEqual(["a"]);
    expect(late.left("b")).toBe(1.5e8);
    expect([...runOut(late)]).toEqual([
      ["b", 4_000],
      ["c", 5_500],
    ]);
  });
  test("an id in use and a full model are refused", () => {
    const model = new TransferModel({ ...fabric, transfers_max: 1 });
    const [a, b] = [instance(0, 0, 1), instance(0, 1, 1)];
    expect(model.begin("a", a, b, 1, 0)).toEqual({ type: "begun" });
    expect(model.begin("b", a, b, 1, 0)).toEqual({ type: "refused", reason: "too_many" });
    const wide = new TransferModel(fabric);
    wide.begin("a", a, b, 1, 0);
    expect(wide.begin("a", a, b, 1, 0)).toEqual({ type: "refused", reason: "id_in_use" });
  });
});

type Action = { kind: "begin" | "cancel" | "pass"; from: number; to: number; tp: number; bytes: number; after: number };
const action: fc.Arbitrary<Action> = fc.record({
  kind: fc.constantFrom("begin", "begin", "cancel", "pass"),
  from: fc.nat(7),
  to: fc.nat(7),
  tp: fc.constantFrom(1, 2, 4),
  bytes: fc.integer({ min: 1, max: 2_000_000_000 }),
  after: fc.integer({ min: 0, max: 20_000 }),
});

/** Plays a history and holds the laws at every moment; its log. */
function play(actions: readonly Action[]): string {
  const model = new TransferModel(fabric);
  const log: unknown[] = [];
  const under_way = new Map<string, number>();
  const arrived = new Map<string, number>();
  let now = 0;
  const laws = () => {
    const loads = model.loads();
    for (const [link, load] of loads) expect(load).toBeLessThanOrEqual(model.capacity(link) * (1 + 1e-9));
  };
  const passTo = (to: number) => {
    for (let at = model.wake(); at !== null && at <= to; at = model.wake()) {
      const before = [...under_way.keys()].map((id) => [id, model.left(id) ?? 0] as const);
      const flowed = model.loads();
      for (const id of model.advance(at)) {
        log.push([id, at]);
        arrived.set(id, under_way.get(id) ?? -1);
        under_way.delete(id);
      }
      // Bytes are conserved: what is no longer left is what the links carried, but for the microsecond that `wake` rounds up.
      const gone = before.reduce((sum, [id, left]) => sum + left - (model.left(id) ?? 0), 0);
      const outs = (loads: ReadonlyMap<string, number>) => [...loads].filter(([link]) => link.includes(" out "));
      const out = outs(flowed).reduce((sum, [, load]) => sum + load * (at - now), 0);
      const rounding = outs(new Map([...flowed, ...model.loads()])).reduce((sum, [link]) => sum + model.capacity(link), 1 + before.length);
      expect(Math.abs(gone - out)).toBeLessThanOrEqual(rounding + out * 1e-9);
      now = at;
      laws();
    }
    now = Math.max(now, to);
    model.advance(now);
  };
  for (const [serial, each] of actions.entries()) {
    passTo(now + each.after);
    if (each.kind === "begin") {
      const [from, to] = [
        instance(each.from >> 1, (each.from % 2) * 4, each.tp),
        instance(each.to >> 1, (each.to % 2) * 4, 1 + (serial % 4)),
      ];
      log.push(model.begin(`t${serial}`, from, to, each.bytes, now));
      under_way.set(`t${serial}`, each.bytes);
    } else if (each.kind === "cancel") {
      const id = `t${each.from}`;
      expect(model.cancel(id, now)).toBe(under_way.delete(id));
    }
    laws();
    // Work-conserving: whoever flows has a full link.
    if (model.size > 0) {
      const loads = model.loads();
      const full = [...loads].filter(([link, load]) => load >= model.capacity(link) * (1 - 1e-9));
      if ([...loads.values()].some((load) => load > 0)) expect(full.length).toBeGreaterThan(0);
    }
  }
  passTo(Number.MAX_SAFE_INTEGER / 4);
  expect(model.size).toBe(0);
  expect(under_way.size).toBe(0); // all that was not cancelled arrived
  return JSON.stringify(log);
}

test("random histories: no link above capacity, bytes conserved, no idle link in need, the same history says the same", () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 30 }), (actions) => {
      expect(play(actions)).toBe(play(actions));
    }),
    { numRuns: 200 },
  );
});

test("hours into a run, where a microsecond's parts are coarser than a byte takes, transfers still end", () => {
  for (const begin of [2 ** 34 + 1, 2 ** 36 + 1, 2 ** 40 + 1]) {
    const model = new TransferModel(fabric);
    for (let i = 0; i < 200; i++) {
      model.begin(`t${i}`, instance(0, 0, 1), instance(0, 1, 1), 1_000_003 * (i + 1), begin + i * 10_000);
      expect([...runOut(model).keys()]).toEqual([`t${i}`]);
    }
  }
});
