import { expect, test } from "vitest";
import { micros } from "../../../schema/core/time.ts";
import type { CacheManagement, InstanceView } from "../policies.ts";
import { CAPABILITIES, makeCall, makeInstance, makeView, second } from "../scheduler/testing.ts";
import type { Call } from "../vocabulary.ts";
import { leastPredictedLoad } from "./least-load.ts";

const cold: CacheManagement = { expected_hit_tokens: () => 0, placed: () => {}, lost: () => {} };
const route = (call: Call, views: readonly InstanceView[], cache = cold) =>
  leastPredictedLoad({ cache, deferred_pulls_max: 2, kv_lease_margin: second(5) }).route(call, views, micros(0));
const pair = (prefill: string, decode: string) => ({ type: "two_legs", prefill, decode });

const p1 = makeView(makeInstance("p1", "prefill"));
const p2 = makeView(makeInstance("p2", "prefill"));
const d1 = makeView(makeInstance("d1", "decode"));
const d2 = makeView(makeInstance("d2", "decode"));
const call = makeCall("c");

test("the least loaded of each side; ties go to the lower id whatever the order (I9)", () => {
  expect(route(call, [p1, p2, d1, d2])).toEqual(pair("p1", "d1"));
  expect(route(call, [d2, p2, d1, p1])).toEqual(pair("p1", "d1"));
  expect(route(call, [{ ...p1, prefill_tokens: 500 }, p2, { ...d1, legs: 1 }, d2])).toEqual(pair("p2", "d2"));
  // A reservation counts like a leg.
  expect(route(call, [p1, { ...d1, reserved: 2 }, { ...d2, legs: 1 }])).toEqual(pair("p1", "d2"));
});

test("work that the cache saves is not load", () => {
  const warm: CacheManagement = { ...cold, expected_hit_tokens: (_call, id) => (id === p2.instance.instance_id ? 1_600 : 0) };
  expect(route(makeCall("c", { prompt_tokens: 2_000 }), [p1, p2, d1], warm)).toEqual(pair("p2", "d1"));
});

test("only ready instances with a free slot, KV and prefill allowance", () => {
  for (const state of ["loading", "sleeping", "waking", "draining", "lost"] as const)
    expect(route(call, [{ ...p1, state }, p2, d1])).toEqual(pair("p2", "d1"));
  expect(route(call, [{ ...p1, legs: 4 }, p2, d1])).toEqual(pair("p2", "d1"));
  expect(route(call, [p1, { ...d1, legs: 2, reserved: 2 }])).toEqual({ type: "wait" });
  expect(route(call, [p1, { ...d1, kv_tokens: 99_900 }])).toEqual({ type: "wait" });
  expect(route(call, [{ ...p1, prefill_tokens: 8_100 }, d1])).toEqual({ type: "wait" });
});

test("a prompt longer than the whole prefill allowance goes alone", () => {
  const small = makeView(makeInstance("p1", "prefill", { prefill_tokens_max: 50 }));
  expect(route(call, [small, d1])).toEqual(pair("p1", "d1"));
  expect(route(call, [{ ...small, prefill_tokens: 1 }, d1])).toEqual({ type: "wait" });
});

test("a decode instance with too many deferred pulls is left out (D3)", () => {
  expect(route(call, [p1, { ...d1, deferred_pulls: 2 }, { ...d2, legs: 3 }])).toEqual(pair("p1", "d2"));
});

test("legs pair only within one KV compatibility", () => {
  const other = makeView(makeInstance("d0", "decode", { kv_compat: "v2" }));
  expect(route(call, [p1, other, d1])).toEqual(pair("p1", "d1"));
  expect(route(call, [p1, other])).toEqual({ type: "wait" });
});

test("a pair inside a node comes before any across, however loaded; across only when no node has room for both", () => {
  const far = makeView(makeInstance("d0", "decode", { node: "node_2" }));
  const busy = { ...d1, legs: 3 };
  expect(route(call, [p1, far, busy])).toEqual(pair("p1", "d1"));
  expect(route(call, [p1, far, { ...d1, legs: 4 }])).toEqual(pair("p1", "d0"));
  const far_p = makeView(makeInstance("p9", "prefill", { node: "node_2" }));
  expect(route(call, [{ ...p1, prefill_tokens: 4_000 }, busy, far_p, far])).toEqual(pair("p9", "d0"));
});

test("a prefill instance that holds KV no longer than the margin cannot hand over (I3)", () => {
  const short = makeView(makeInstance("p0", "prefill", { kv_lease: second(5) }));
  expect(route(call, [short, p1, d1])).toEqual(pair("p1", "d1"));
});

test("instances that serve whole calls compete with pairs by load", () => {
  const both = makeView(makeInstance("b1", "both"));
  expect(route(call, [both, p1, { ...d1, legs: 3 }])).toEqual({ type: "one_leg", instance: "b1" });
  expect(route(call, [{ ...both, legs: 3 }, p1, d1])).toEqual(pair("p1", "d1"));
});

test("an engine without legs serves whole calls", () => {
  const plain = makeView(makeInstance("x", "decode", { capabilities: { ...CAPABILITIES, legs: "none" } }));
  expect(route(call, [plain])).toEqual({ type: "one_leg", instance: "x" });
});

test("a call that cannot be split: `both` if any exists, even when it is busy; else whole on decode", () => {
  const whole = makeCall("c", { splittable: false });
  const both = makeView(makeInstance("b1", "both"));
  expect(route(whole, [p1, d1, d2])).toEqual({ type: "one_leg", instance: "d1" });
  expect(route(whole, [p1, d1, both])).toEqual({ type: "one_leg", instance: "b1" });
  expect(route(whole, [p1, d1, { ...both, state: "loading" }])).toEqual({ type: "wait" });
  expect(route(whole, [p1, d1, { ...both, state: "lost" }])).toEqual({ type: "one_leg", instance: "d1" });
});

test("other models' instances do not count", () => {
  expect(route(makeCall("c", { model: "other" }), [p1, d1])).toEqual({ type: "wait" });
});

test("with nothing there, or one side missing, a call waits; elasticity may bring it", () => {
  expect(route(call, [])).toEqual({ type: "wait" });
  expect(route(call, [p1])).toEqual({ type: "wait" });
  expect(route(call, [d1])).toEqual({ type: "wait" });
});

test("what no instance could serve even empty is impossible, in whatever state they are", () => {
  const long = makeCall("c", { prompt_tokens: 9_000 });
  expect(route(long, [{ ...p1, state: "loading" }, d1])).toMatchObject({ type: "impossible", failure: { code: "context_too_long" } });
  const cramped = makeView(makeInstance("d1", "decode", { kv_tokens: 120 }));
  expect(route(call, [p1, cramped])).toMatchObject({ type: "impossible", failure: { code: "context_too_long" } });
  expect(route(call, [p1, cramped, { ...d2, state: "draining" }])).toEqual({ type: "wait" });
});

test("engines whose legs must start together are not paired", () => {
  const concurrent = { capabilities: { ...CAPABILITIES, legs: "concurrent" } } as const;
  const views = [makeView(makeInstance("p1", "prefill", concurrent)), makeView(makeInstance("d1", "decode", concurrent))];
  expect(route(call, views)).toMatchObject({ type: "impossible", failure: { code: "no_capacity" } });
});
