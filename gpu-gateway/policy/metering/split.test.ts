import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { splitByWeight } from "./split.ts";

const legs = (...weights: number[]) => weights.map((weight, i) => ({ id: `leg${i}`, weight }));

describe("splitByWeight", () => {
  test("gives one leg everything", () => expect(splitByWeight(17, legs(3))).toEqual([17]));
  test("divides in proportion", () => expect(splitByWeight(60, legs(1, 2, 3))).toEqual([10, 20, 30]));
  test("gives what is left to the largest remainders", () => expect(splitByWeight(10, legs(1, 5, 1))).toEqual([2, 7, 1]));

  test("breaks ties by id, not by place", () => {
    const [b, a] = [
      { id: "b", weight: 1 },
      { id: "a", weight: 1 },
    ];
    expect(splitByWeight(3, [b, a])).toEqual([1, 2]);
    expect(splitByWeight(3, [a, b])).toEqual([2, 1]);
  });

  test("adds up, is the largest-remainder split computed in whole numbers, and does not depend on the order of the legs", () => {
    // Small ones stay in doubles, large ones do not; few values, so that weights and remainders are often equal.
    const weight = fc.oneof(
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: 1, max: 100_000_000 }),
      fc.maxSafeInteger().map((n) => Math.abs(n) + 1),
    );
    const weights = fc.array(weight.filter(Number.isSafeInteger), { minLength: 1, maxLength: 64 });
    const totals = fc.oneof(
      fc.integer({ min: 0, max: 1_000 }),
      fc.integer({ min: 0, max: 60_000_000_000 }),
      fc.maxSafeInteger().map(Math.abs),
    );
    fc.assert(
      fc.property(totals, weights, (total, all) => {
        const some = all.map((weight, i) => ({ id: `leg${String(i).padStart(3, "0")}`, weight }));
        const parts = splitByWeight(total, some);
        expect(parts).toEqual(byDefinition(BigInt(total), all));
        expect(parts.reduce((a, b) => a + BigInt(b), 0n)).toBe(BigInt(total));
        expect(splitByWeight(total, some.toReversed()).toReversed()).toEqual(parts);
      }),
      { numRuns: 2_000 },
    );
  });
});

/** What the words say, and nothing clever. Ids are in the order of the weights. */
function byDefinition(total: bigint, weights: readonly number[]): number[] {
  const sum = weights.reduce((a, b) => a + BigInt(b), 0n);
  const shares = weights.map((weight, i) => ({ i, floor: (total * BigInt(weight)) / sum, rest: (total * BigInt(weight)) % sum }));
  const left = total - shares.reduce((a, { floor }) => a + floor, 0n);
  const first = new Set(shares.toSorted((a, b) => (a.rest === b.rest ? a.i - b.i : a.rest > b.rest ? -1 : 1)).slice(0, Number(left)));
  return shares.map((share) => Number(share.floor) + (first.has(share) ? 1 : 0));
}
