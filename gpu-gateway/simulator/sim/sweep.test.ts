/** A few seeds in every check: all invariants hold under faults, and everything comes to its end once they are over. */
import { expect, test } from "vitest";
import { type Invariant, INVARIANTS } from "../checkers/checker.ts";
import { FAULT_KINDS } from "../faults/fault.ts";
import { scenarioOf } from "./generate.ts";
import { type RunReport, runScenario } from "./run.ts";

const SEEDS = 20;
const reports: RunReport[] = [];

test.each(Array.from({ length: SEEDS }, (_, n) => 1_001 + n))("seed %i", (seed) => {
  const report = runScenario(scenarioOf(seed));
  reports.push(report);
  expect(report.outcome).toEqual({ type: "ok" });
});

/**
 * Seeds that once failed: KV held for ever after a cancel in a prefill's last step, or under the name of a request of before a restart; calls that
 * rest, and came back to a queue that had filled meanwhile; calls refused, then taken, and told twice.
 */
test.each([10_305, 20_026, 485, 282])("seed %i, which once failed", (seed) => {
  expect(runScenario(scenarioOf(seed)).outcome).toEqual({ type: "ok" });
});

test("they did meet every invariant and nearly every fault", () => {
  const held = (invariant: Invariant) => reports.some(({ verdicts }) => verdicts[invariant]?.type === "held");
  expect(INVARIANTS.filter((invariant) => !held(invariant))).toEqual([]);
  const never = FAULT_KINDS.filter((kind) => reports.every(({ fired }) => fired[kind] === undefined));
  expect(never.length).toBeLessThan(4);
});
