/** Whatever clients, engines and providers do, and whatever they fail to do: I2, D3, I7, I9 hold, and nothing is left over. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { baselinePolicies } from "./defaults.ts";
import { createScheduler } from "./scheduler.ts";
import { ModelWorld, type Setup, type Step } from "./scheduler/model-world.test-support.ts";
import { MODEL, second } from "./scheduler/testing.ts";

const CASES = 1_000;

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

/** Bring-up first, so that most cases do more than wait for instances. */
const BRING_UP: readonly Step[] = Array.from({ length: 7 }, (_, n) => ({ action: 11, which: n, value: 1 }));

const configOf = ({ targets }: Setup) =>
  baselinePolicies({
    scope: "cell_a/1",
    targets: targets.map((target) => ({ model: MODEL, ...target })),
    queued_per_model_max: 12,
    limits: { deferred_pulls_max: 2, launch_bound: second(60), stop_bound: second(120) },
  });

const ended: Record<string, number> = {};
let legs = 0;

test("random worlds: every accepted call ends once, reservations balance, slots hold, nothing leaks, and a replay is identical", () => {
  fc.assert(
    fc.property(setup, fc.array(step, { maxLength: 120, size: "max" }), (world_setup, steps) => {
      const world = new ModelWorld(configOf(world_setup), world_setup);
      for (const one of [...BRING_UP, ...steps]) world.step(one);
      world.quiesce();

      const again = createScheduler(configOf(world_setup));
      for (const { event, now, effects } of world.log) expect(JSON.stringify(again.handle(event, now))).toBe(JSON.stringify(effects));

      for (const effect of world.ended.values()) {
        const how = effect.type === "end_call" ? effect.outcome.type : effect.type;
        ended[how] = (ended[how] ?? 0) + 1;
      }
      for (const { effects } of world.log) legs += effects.filter(({ type }) => type === "start_leg").length;
    }),
    { numRuns: CASES },
  );
}, 60_000);

test("the random worlds did reach every kind of end, and most calls ran", () => {
  for (const how of ["done", "cancelled", "shed", "failed", "reject"]) expect(ended[how], how).toBeGreaterThan(100);
  expect(legs).toBeGreaterThan(CASES);
});
