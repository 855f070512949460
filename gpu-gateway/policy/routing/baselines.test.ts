import { expect, test } from "vitest";
import { micros } from "../../../schema/core/time.ts";
import type { CacheManagement, InstanceView, Routing } from "../policies.ts";
import { makeCall, makeInstance, makeView, second } from "../scheduler/testing.ts";
import { loadBalance } from "./load-balance.ts";
import { randomRouting } from "./random.ts";

const everywhere: CacheManagement = { expected_hit_tokens: () => 96, placed: () => undefined, lost: () => undefined };
const options = { cache: everywhere, at_once: true, deferred_pulls_max: 4, kv_lease_margin: second(5) };
const call = makeCall("c");
const views = ["p1", "p2", "p3"].map((id) => makeView(makeInstance(id, "prefill")));
const decodes = ["d1", "d2"].map((id) => makeView(makeInstance(id, "decode")));
const prefillOf = (routing: Routing, among: readonly InstanceView[]): string => {
  const decision = routing.route(call, among, micros(1_000));
  return decision.type === "two_legs" ? String(decision.prefill) : decision.type;
};

test("random spreads over all, and the same seed gives the same choices (I9)", () => {
  const choices = (seed: number): readonly string[] => {
    const routing = randomRouting({ ...options, seed });
    return Array.from({ length: 300 }, () => prefillOf(routing, [...views, ...decodes]));
  };
  expect(choices(1)).toEqual(choices(1));
  expect(choices(1)).not.toEqual(choices(2));
  for (const id of ["p1", "p2", "p3"]) expect(choices(1).filter((one) => one === id).length).toBeGreaterThan(70);
});

test("load-balance takes what is done soonest, then what has fewest prompt tokens, then the lower id", () => {
  const routing = loadBalance(options);
  const [p1, p2, p3] = views;
  if (p1 === undefined || p2 === undefined || p3 === undefined) throw new Error("three views");
  expect(prefillOf(routing, [p3, p2, p1, ...decodes])).toBe("p1");
  expect(prefillOf(routing, [{ ...p1, prefill_due: micros(2_000) }, p2, p3, ...decodes])).toBe("p2");
  // Before now is now.
  expect(
    prefillOf(routing, [{ ...p1, prefill_due: micros(900), prefill_tokens: 5 }, { ...p2, prefill_due: micros(950) }, ...decodes]),
  ).toBe("p2");
});
