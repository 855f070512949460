/** Each checker can fail: a bug planted for it is found by it within a few seeds, and the seed that finds it passes without the bug. */
import { describe, expect, test } from "vitest";
import { scenarioOf } from "./generate.ts";
import { PLANTS } from "./plants.ts";
import { runScenario } from "./run.ts";

const SEEDS_MAX = 40;

describe.each(PLANTS)("a bug planted for %s", (plant) => {
  test(`is found by its own checker within ${SEEDS_MAX} seeds, which pass without it`, () => {
    for (let seed = 1; seed <= SEEDS_MAX; seed++) {
      const scenario = scenarioOf(seed);
      const { outcome } = runScenario(scenario, { plant });
      if (outcome.type === "ok") continue;
      // What a bug breaks first may be the run's end; whatever is broken is what it was planted for.
      if (outcome.type === "broken") expect(outcome.invariant).toBe(plant);
      else expect(outcome.type).toBe("liveness");
      expect(runScenario(scenario).outcome).toEqual({ type: "ok" });
      if (outcome.type === "broken") return;
    }
    expect.fail(`no seed up to ${SEEDS_MAX} found it`);
  });
});
