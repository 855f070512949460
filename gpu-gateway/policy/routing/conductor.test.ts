/** The conductor against brute force, written down a second time from the paper's rule. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { InstanceId } from "../../../schema/core/ids.ts";
import { type Micros, micros } from "../../../schema/core/time.ts";
import type { CacheManagement, InstanceView, TimeEstimates } from "../policies.ts";
import { makeCall, makeInstance, makeView, second } from "../scheduler/testing.ts";
import { conductor, type ConductorOptions } from "./conductor.ts";

const estimates: TimeEstimates = {
  prefill_time: (_instance, uncached, cached) => (uncached * 100 + uncached * cached) as Micros,
  decode_step_time: (view) => (1_000 + view.legs * 100) as Micros,
  transfer_time: (tokens) => (500 + tokens * 7) as Micros,
};
const cacheOf = (hits: Readonly<Record<string, number>>): CacheManagement => ({
  expected_hit_tokens: (_call, id: InstanceId) => hits[String(id)] ?? 0,
  placed: () => undefined,
  lost: () => undefined,
});
const optionsOf = (hits: Readonly<Record<string, number>>, more: Partial<ConductorOptions> = {}): ConductorOptions => ({
  cache: cacheOf(hits),
  at_once: true,
  deferred_pulls_max: 4,
  kv_lease_margin: second(5),
  estimates,
  fetch_threshold: 2,
  ...more,
});
const PROMPT = 1_000;
const call = makeCall("c", { prompt_tokens: PROMPT });
const d1 = makeView(makeInstance("d1", "decode"));
const p = (id: string, queue_us: number): InstanceView => makeView(makeInstance(id, "prefill"), { prefill_due: micros(queue_us) });

test("a cached prefix is worth a queue, until the queue is longer than computing it anew", () => {
  const hits = { p1: 500 };
  // p1: 500·100 + 500·500 = 300,000; p2: 100,000.
  const linear: TimeEstimates = { ...estimates, prefill_time: (_instance, uncached) => (uncached * 100) as Micros };
  const route = (queue_us: number) =>
    conductor(optionsOf(hits, { estimates: linear, fetch_threshold: null })).route(call, [p("p1", queue_us), p("p2", 0), d1], micros(0));
  expect(route(49_999)).toMatchObject({ prefill: "p1" });
  expect(route(50_001)).toMatchObject({ prefill: "p2" });
});

test("beyond the threshold the prefix is fetched from who has it; below it, and without one, nothing is", () => {
  const linear: TimeEstimates = { ...estimates, prefill_time: (_instance, uncached) => (uncached * 100) as Micros };
  const views = [p("p1", 500_000), p("p2", 0), d1];
  const route = (hits: Record<string, number>, fetch_threshold: number | null) =>
    conductor(optionsOf(hits, { estimates: linear, fetch_threshold })).route(call, views, micros(0));
  expect(route({ p1: 800 }, 2)).toEqual({
    type: "two_legs",
    prefill: "p2",
    decode: "d1",
    fetch_prefix: { instance_id: "p1", tokens: 800 },
  });
  expect(route({ p1: 800, p2: 400 }, 2)).toEqual({ type: "two_legs", prefill: "p2", decode: "d1" });
  expect(route({ p1: 800 }, null)).toEqual({ type: "two_legs", prefill: "p2", decode: "d1" });
});

test("the answer goes where a token takes least; of equals to the node of the prefill, then to the lower id", () => {
  const far = makeView(makeInstance("d0", "decode", { node: "node_2" }));
  const route = (...views: readonly InstanceView[]) => conductor(optionsOf({})).route(call, [p("p1", 0), ...views], micros(0));
  expect(route(far, d1)).toMatchObject({ decode: "d1" });
  expect(route(far, { ...d1, legs: 1 })).toMatchObject({ decode: "d0" });
  expect(route(makeView(makeInstance("d2", "decode")), d1)).toMatchObject({ decode: "d1" });
});

test("at once: a queue in the engine is no reason to wait, a missing slot is; otherwise room is asked for", () => {
  const busy = { ...p("p1", 0), prefill_tokens: 8_192, kv_tokens: 100_000 };
  expect(conductor(optionsOf({})).route(call, [busy, d1], micros(0))).toMatchObject({ prefill: "p1" });
  expect(conductor(optionsOf({}, { at_once: false })).route(call, [busy, d1], micros(0))).toEqual({ type: "wait" });
  expect(conductor(optionsOf({})).route(call, [{ ...busy, legs: 4 }, d1], micros(0))).toEqual({ type: "wait" });
  expect(conductor(optionsOf({})).route(call, [busy, { ...d1, deferred_pulls: 4 }], micros(0))).toEqual({ type: "wait" });
});

test("what no instance could ever serve is said to be impossible", () => {
  const long = makeCall("c", { prompt_tokens: 9_000 });
  expect(conductor(optionsOf({})).route(long, [p("p1", 0), d1], micros(0))).toMatchObject({ type: "impossible" });
  expect(conductor(optionsOf({})).route(call, [], micros(0))).toEqual({ type: "wait" });
});

const world = fc.record({
  prefills: fc.array(fc.record({ queue: fc.nat(200_000), hit: fc.nat(PROMPT - 1), compat: fc.nat(1), slots: fc.nat(5) }), { maxLength: 6 }),
  decodes: fc.array(fc.record({ legs: fc.nat(5), compat: fc.nat(1), pulls: fc.nat(5) }), { maxLength: 4 }),
  boths: fc.array(fc.record({ queue: fc.nat(200_000), hit: fc.nat(PROMPT - 1), legs: fc.nat(4) }), { maxLength: 2 }),
  threshold: fc.option(fc.integer({ min: 1, max: 4 }), { nil: null }),
  now: fc.nat(50_000),
});

test("the least expected time to first token, and what admission is told is the same time", () => {
  let fetched = 0;
  fc.assert(
    fc.property(world, ({ prefills, decodes, boths, threshold, now }) => {
      const hits: Record<string, number> = {};
      const views: InstanceView[] = [];
      prefills.forEach(({ queue, hit, compat, slots }, n) => {
        hits[`p${n}`] = hit;
        views.push(
          makeView(makeInstance(`p${n}`, "prefill", { kv_compat: `v${compat}`, slots: 5 }), { prefill_due: micros(queue), legs: slots }),
        );
      });
      boths.forEach(({ queue, hit, legs }, n) => {
        hits[`b${n}`] = hit;
        views.push(makeView(makeInstance(`b${n}`, "both", { kv_compat: "v0" }), { prefill_due: micros(queue), legs }));
      });
      decodes.forEach(({ legs, compat, pulls }, n) =>
        views.push(makeView(makeInstance(`d${n}`, "decode", { kv_compat: `v${compat}`, slots: 5 }), { legs, deferred_pulls: pulls })),
      );

      const compatOf = (view: InstanceView): string => view.instance.kv_compat;
      const idOf = (view: InstanceView): string => String(view.instance.instance_id);
      const open = (view: InstanceView): boolean => view.legs < view.instance.slots;
      const answering = (first: InstanceView, room: boolean): readonly InstanceView[] =>
        first.instance.role === "both"
          ? [first]
          : views.filter(
              (view) =>
                view.instance.role === "decode" && compatOf(view) === compatOf(first) && (!room || (open(view) && view.deferred_pulls < 4)),
            );
      const timeAt = (first: InstanceView): number => {
        const own = hits[idOf(first)] ?? 0;
        const best = Math.max(0, ...views.filter((view) => compatOf(view) === compatOf(first)).map((view) => hits[idOf(view)] ?? 0));
        const queue = Math.max(0, first.prefill_due - now);
        const compute = (cached: number): number => (PROMPT - cached) * 100 + (PROMPT - cached) * cached;
        return threshold !== null && best > own * threshold ? 500 + (best - own) * 7 + queue + compute(best) : queue + compute(own);
      };
      const firsts = views.filter((view) => view.instance.role !== "decode");
      const placeable = firsts.filter((view) => open(view) && answering(view, true).length > 0);
      const routing = conductor(optionsOf(hits, { fetch_threshold: threshold }));
      const decision = routing.route(call, views, micros(now));

      if (decision.type === "wait" || decision.type === "impossible") expect(placeable).toEqual([]);
      else {
        const chosen = views.find(
          (view) => view.instance.instance_id === (decision.type === "one_leg" ? decision.instance : decision.prefill),
        );
        if (chosen === undefined) throw new Error("chose an instance that is not there");
        expect(placeable).toContain(chosen);
        expect(timeAt(chosen)).toBe(Math.min(...placeable.map(timeAt)));
        expect((decision.fetch_prefix?.tokens ?? hits[idOf(chosen)] ?? 0) >= (hits[idOf(chosen)] ?? 0)).toBe(true);
        if (decision.fetch_prefix !== undefined) {
          fetched += 1;
          expect(hits[String(decision.fetch_prefix.instance_id)]).toBe(decision.fetch_prefix.tokens);
        }
        if (decision.type === "two_legs") {
          const decode = views.find((view) => view.instance.instance_id === decision.decode);
          expect(decode?.legs).toBe(Math.min(...answering(chosen, true).map((view) => view.legs)));
        }
      }
      const served = firsts.filter((view) => answering(view, false).length > 0);
      const expected = routing.expect(call, views, micros(now));
      expect(expected?.ttft ?? null).toBe(served.length === 0 ? null : Math.min(...served.map(timeAt)));
    }),
    { numRuns: 1_000 },
  );
  expect(fetched).toBeGreaterThan(50);
});
