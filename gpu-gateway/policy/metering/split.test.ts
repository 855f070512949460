import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { splitByWeight } from "./split.ts";

const legs = (...weights: number[]) => weights.map((weight, i) => ({ id: `leg${i}`, weight: BigInt(weight) }));

describe("splitByWeight", () => {
  test("gives one leg everything", () => expect(splitByWeight(17n, legs(3))).toEqual([17n]));
  test("divides in proportion", () => expect(splitByWeight(60n, legs(1, 2, 3))).toEqual([10n, 20n, 30n]));
  test("gives what is left to the largest remainders", () => expect(splitByWeight(10n, legs(1, 5, 1))).toEqual([2n, 7n, 1n]));

  test("breaks ties by id, not by place", () => {
    const [b, a] = [
      { id: "b", weight: 1n },
      { id: "a", weight: 1n },
    ];
    expect(splitByWeight(3n, [b, a])).toEqual([1n, 2n]);
    expect(splitByWeight(3n, [a, b])).toEqual([2n, 1n]);
  });

  test("adds up, stays within one of the exact share, and does not depend on the order of the legs", () => {
    const weights = fc.array(fc.bigInt(1n, 100_000_000n), { minLength: 1, maxLength: 64 });
    fc.assert(
      fc.property(fc.bigInt(0n, 10n ** 15n), weights, (total, all) => {
        const some = all.map((weight, i) => ({ id: `leg${String(i).padStart(3, "0")}`, weight }));
        const parts = splitByWeight(total, some);
        const sum = all.reduce((a, b) => a + b, 0n);
        expect(parts.reduce((a, b) => a + b, 0n)).toBe(total);
        for (const [i, part] of parts.entries()) {
          const off = part * sum - total * all[i]!;
          expect(off > -sum && off < sum).toBe(true);
        }
        expect(splitByWeight(total, some.toReversed()).toReversed()).toEqual(parts);
      }),
      { numRuns: 1_000 },
    );
  });
});
