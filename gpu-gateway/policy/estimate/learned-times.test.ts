import { expect, test } from "vitest";
import type { Micros } from "../../../schema/core/time.ts";
import { makeCall, makeInstance, makeView } from "../scheduler/testing.ts";
import { seeded } from "../seeded.ts";
import { learnedTimes } from "./learned-times.ts";
import { RobustFit } from "./robust-fit.ts";

const P = makeInstance("p1", "prefill");
const D = makeInstance("d1", "decode");
const times = () => learnedTimes({ kinds_max: 2, transfer_us: 1_000, transfer_us_per_token: 5 });
/** An engine three times slower than the one assumed. */
const trueTime = (uncached: number, cached: number): number => 30_000 + 210 * uncached + 0.0075 * uncached * (cached + uncached / 2);
const off = (guess: number, truth: number): number => Math.abs(guess - truth) / truth;

test("before anything was seen, prefill times are of the right size and grow with what is to be computed", () => {
  const learned = times();
  expect(off(learned.prefill_time(P, 2_048, 0), 145_600)).toBeLessThan(0.25);
  expect(learned.prefill_time(P, 4_096, 0)).toBeGreaterThan(learned.prefill_time(P, 2_048, 2_048));
  expect(learned.prefill_time(P, 2_048, 30_000)).toBeGreaterThan(learned.prefill_time(P, 2_048, 0));
});

test("prefill times are learned, with noise, and an outlier in twenty does not spoil them", () => {
  const learned = times();
  const chance = seeded(3);
  for (let n = 0; n < 400; n++) {
    const uncached = 16 + chance.below(8_000);
    const cached = chance.below(2) * chance.below(16_000);
    const noise = 0.95 + chance.below(100) / 1_000;
    const stalled = n % 20 === 19 ? 20_000_000 : 0;
    learned.prefilled?.(P, uncached, cached, (trueTime(uncached, cached) * noise + stalled) as Micros);
  }
  for (const [uncached, cached] of [
    [1_000, 0],
    [8_000, 0],
    [2_000, 16_000],
  ] as const)
    expect(off(learned.prefill_time(P, uncached, cached), trueTime(uncached, cached)), `${uncached} + ${cached}`).toBeLessThan(0.15);
});

test("an engine that becomes slower is noticed", () => {
  const learned = times();
  for (let n = 0; n < 600; n++) {
    const uncached = 500 + (n % 7) * 700;
    learned.prefilled?.(P, uncached, 0, ((n < 300 ? 70 : 140) * uncached) as Micros);
  }
  expect(off(learned.prefill_time(P, 2_000, 0), 280_000)).toBeLessThan(0.1);
});

test("time between tokens is learned from answers: it grows with calls and KV", () => {
  const learned = times();
  for (let n = 0; n < 300; n++) {
    const legs = 1 + (n % 32);
    const kv_tokens = legs * (500 + (n % 5) * 300);
    learned.decoded?.(makeView(D, { legs, kv_tokens }), 100, ((20_000 + 300 * legs + 0.2 * kv_tokens) * 100) as Micros);
  }
  const view = makeView(D, { legs: 15, kv_tokens: 14_850 });
  expect(off(learned.decode_step_time(view, makeCall("c")), 20_000 + 300 * 16 + 0.2 * 15_000)).toBeLessThan(0.1);
});

test("kinds of instance are told apart, and the oldest is forgotten at the limit (I8)", () => {
  const learned = times();
  const before = learned.prefill_time(P, 1_000, 0);
  for (let n = 0; n < 50; n++) learned.prefilled?.(P, 1_000, 0, 1_000_000 as Micros);
  expect(learned.prefill_time({ ...P, model: "other" }, 1_000, 0)).toBe(before);
  expect(off(learned.prefill_time(P, 1_000, 0), 1_000_000)).toBeLessThan(0.1);
  learned.prefill_time({ ...P, model: "third" }, 1_000, 0);
  expect(learned.prefill_time(P, 1_000, 0)).toBe(before);
});

test("a hundred thousand equal samples leave the fit finite", () => {
  const fit = new RobustFit({ prior: [0, 0], prior_spread: [10, 10], noise: 1, forgetting: 0.9 });
  for (let n = 0; n < 100_000; n++) fit.learn([1, 2], 12);
  expect(fit.predict([1, 2])).toBeCloseTo(12, 3);
  expect(fit.coefficients.every((value) => Number.isFinite(value))).toBe(true);
});
