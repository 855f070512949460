/** The fit behind the engine model's coefficients, on tables made here: the public ones are not part of this repository. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { neverFalling } from "../../bench/calibration/isotonic.ts";
import { errors, fitCurve, type Point } from "../../bench/calibration/piecewise.ts";

const options = { p95_target: 0.001, knots_max: 12, anchors: [], jumps: [], unit: 0.001 };
const tableOf = (f: (x: number) => number): Point[] => Array.from({ length: 256 }, (_, i) => [8 * (i + 1), f(8 * (i + 1))]);

describe("the calibration's fit", () => {
  it("draws a line through two points, and finds a bend and a jump", () => {
    expect(
      fitCurve(
        tableOf((x) => 100 + x),
        options,
      ),
    ).toEqual([
      [8, 108],
      [2_048, 2_148],
    ]);
    const stairs = tableOf((x) => (x <= 512 ? 100 + x : 900 + x));
    const curve = fitCurve(stairs, { ...options, jumps: [256, 512, 1_024] });
    expect(curve).toEqual([
      [8, 108],
      [512, 612],
      [520, 1_420],
      [2_048, 2_948],
    ]);
  });
  it("goes through its anchors, the later of two rows for one size, and says what that costs", () => {
    const noisy: Point[] = [...tableOf((x) => 100 + x), [1_024, 1_500]];
    const curve = fitCurve(noisy, { ...options, anchors: [1_024], knots_max: 3 });
    expect(curve[1]).toEqual([1_024, 1_500]);
    expect(Math.max(...errors(noisy, curve))).toBeGreaterThan(0.1);
  });
  it("the nearest table that never falls: none where it never fell, between the rows where it did", () => {
    const rows = fc.array(fc.integer({ min: 1, max: 1_000 }), { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(rows, (ys) => {
        const table = ys.map((y, x): Point => [x, y]);
        const fitted = neverFalling(table).map(([, y]) => y);
        for (const [i, y] of fitted.entries()) {
          expect(y).toBeGreaterThanOrEqual((fitted[i - 1] ?? 0) * (1 - 1e-12));
          expect(y).toBeGreaterThanOrEqual(Math.min(...ys) * (1 - 1e-12));
          expect(y).toBeLessThanOrEqual(Math.max(...ys) * (1 + 1e-12));
        }
        const sorted = ys.toSorted((a, b) => a - b);
        for (const [i, [, y]] of neverFalling(sorted.map((each, x): Point => [x, each])).entries())
          expect(y).toBeCloseTo(sorted[i] ?? 0, 6);
      }),
    );
  });
});
