import { expect, test } from "vitest";
import { POLICY_NAMES } from "../../policy/catalogue.ts";
import { FAULT_KINDS } from "../faults/fault.ts";
import { scenarioOf } from "./generate.ts";

const scenarios = Array.from({ length: 200 }, (_, n) => scenarioOf(n));

test("the same seed is the same scenario; another is another", () => {
  expect(scenarioOf(7)).toEqual(scenarioOf(7));
  expect(new Set(scenarios.map((one) => JSON.stringify({ ...one, seed: 0 }))).size).toBe(scenarios.length);
});

test("a scenario is plain data: a file holds all of it", () => {
  for (const one of scenarios.slice(0, 20)) expect(JSON.parse(JSON.stringify(one))).toEqual(one);
});

test("seeds draw every fault, every policy, every kind of pool", () => {
  const drawn = new Set(scenarios.flatMap(({ faults }) => faults.map(({ kind }) => kind)));
  expect(FAULT_KINDS.filter((kind) => !drawn.has(kind))).toEqual([]);
  for (const question of ["admission", "ordering", "routing", "cache"] as const)
    expect(new Set(scenarios.map(({ policies }) => policies[question]))).toEqual(new Set(POLICY_NAMES[question]));
  expect(new Set(scenarios.flatMap(({ cluster }) => cluster.pools.map(({ role }) => role)))).toEqual(
    new Set(["prefill", "decode", "both"]),
  );
});

test("all faults are over when the second phase begins", () => {
  for (const { faults, heals_at } of scenarios)
    for (const fault of faults)
      expect(fault.at + ("lasts" in fault ? fault.lasts : "down" in fault ? fault.down : 0)).toBeLessThanOrEqual(heals_at);
});
