import * as fc from "fast-check";
import { expect, test } from "vitest";
import { SortedList } from "./sorted-list.ts";

test("adding and removing in any order keeps order, size and places", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(2_000), { maxLength: 1_500, size: "max" }), (values) => {
      const list = new SortedList<number>((a, b) => a - b);
      const model = new Set<number>();
      for (const value of values) {
        const there = model.delete(value);
        if (list.remove(value) !== there) throw new Error(`${value} should ${there ? "" : "not "}have been there`);
        if (there) continue;
        model.add(value);
        list.add(value);
      }
      const sorted = [...model].sort((a, b) => a - b);
      expect(list.size).toBe(sorted.length);
      expect(list.first()).toBe(sorted[0]);
      const visited: number[] = [];
      list.visitMilestones((item, place) => {
        expect(sorted[place - 1]).toBe(item);
        visited.push(place);
      });
      expect(visited).toEqual([1, 4, 16, 64, 256, 1_024].filter((place) => place <= sorted.length));
      expect(sorted.map((value) => list.placeOf(value))).toEqual(sorted.map((_, index) => index + 1));
      expect(sorted.every((value) => list.first() === value && list.remove(value))).toBe(true);
      expect(list.size).toBe(0);
    }),
    { numRuns: 100 },
  );
});
