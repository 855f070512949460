/** Every combination in the catalogue keeps what scheduler.property.test.ts asks of the baseline, and decides the same again (I9). */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type CatalogueOptions, choosePolicies, POLICY_NAMES, type PolicyNames } from "./catalogue.ts";
import { createScheduler, type SchedulerConfig } from "./scheduler.ts";
import { ModelWorld, type Setup, type Step } from "./scheduler/model-world.test-support.ts";
import { MODEL, second } from "./scheduler/testing.ts";

const CASES_EACH = 40;

const step: fc.Arbitrary<Step> = fc.record({ action: fc.nat(17), which: fc.nat(99), value: fc.nat(359) });
const setup: fc.Arbitrary<Setup> = fc.record({
  targets: fc.tuple(fc.nat(3), fc.nat(3), fc.nat(1)).map(([prefill, decode, both]) => [
    { role: "prefill" as const, groups: prefill },
    { role: "decode" as const, groups: decode },
    { role: "both" as const, groups: both },
  ]),
  slots: fc.integer({ min: 1, max: 3 }),
  nodes: fc.integer({ min: 1, max: 2 }),
});
const BRING_UP: readonly Step[] = Array.from({ length: 7 }, (_, n) => ({ action: 11, which: n, value: 1 }));

const combinations: readonly (PolicyNames & { readonly at_once: boolean })[] = POLICY_NAMES.admission.flatMap((admission) =>
  POLICY_NAMES.ordering.flatMap((ordering) =>
    POLICY_NAMES.routing.flatMap((routing) =>
      POLICY_NAMES.cache.flatMap((cache) =>
        (routing === "least-load" ? [false] : [false, true]).map((at_once) => ({
          admission,
          ordering,
          routing,
          cache,
          elasticity: "fixed-size" as const,
          allocation: "by-tokens" as const,
          at_once,
        })),
      ),
    ),
  ),
);

function configOf({ at_once, ...names }: (typeof combinations)[number], { targets }: Setup): SchedulerConfig {
  const options: CatalogueOptions = {
    scope: "cell_a/1",
    targets: targets.map((target) => ({ model: MODEL, ...target })),
    queued_per_model_max: 12,
    limits: { deferred_pulls_max: 2, launch_bound: second(60), stop_bound: second(120) },
    parameters: { at_once, ttft_ms_max: 400, seed: 7 },
  };
  const choice = choosePolicies(names, options);
  if (choice.type === "faults") throw new Error(choice.faults.join("; "));
  return choice.config;
}

describe.each(combinations)("$admission, $ordering, $routing (at once: $at_once), $cache", (combination) => {
  let legs = 0;
  let fetches = 0;
  test("keeps the scheduler's word in random worlds, and a replay is identical", () => {
    fc.assert(
      fc.property(setup, fc.array(step, { maxLength: 120, size: "max" }), (world_setup, steps) => {
        const world = new ModelWorld(configOf(combination, world_setup), { ...world_setup, at_once: combination.at_once });
        for (const one of [...BRING_UP, ...steps]) world.step(one);
        world.quiesce();
        const again = createScheduler(configOf(combination, world_setup));
        for (const { event, now, effects } of world.log) {
          if (JSON.stringify(again.handle(event, now)) !== JSON.stringify(effects)) throw new Error("a replay decided otherwise (I9)");
          for (const effect of effects) {
            if (effect.type !== "start_leg") continue;
            legs += 1;
            if (effect.fetch_prefix_from === undefined) continue;
            fetches += 1;
            if (effect.fetch_prefix_from.instance_id === effect.instance_id) throw new Error("fetches from itself");
          }
        }
      }),
      { numRuns: CASES_EACH },
    );
    expect(legs).toBeGreaterThan(CASES_EACH);
    if (combination.routing !== "conductor") expect(fetches).toBe(0);
  });
});

test("there are as many combinations as names allow", () => {
  expect(combinations.length).toBe(2 * 2 * (1 + 4 * 2) * 2);
});
