import * as fc from "fast-check";
import { expect, test } from "vitest";
import { BlockKeys } from "./block-keys.ts";
import { BlockTable } from "./block-table.ts";

test("finds what a Map would find, whatever is added and removed", () => {
  const step = fc.record({ key: fc.nat(40), block: fc.integer({ min: 1, max: 30 }) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const table = new BlockTable(30);
      const by_key = new Map<number, number>();
      const key_of = new Map<number, number>();
      for (const { key, block } of steps) {
        const before = key_of.get(block);
        if (before !== undefined) {
          table.remove(block);
          by_key.delete(before);
          key_of.delete(block);
        } else if (table.add(key % 7, key, block)) {
          expect(by_key.has(key)).toBe(false);
          by_key.set(key, block);
          key_of.set(block, key);
        } else expect(by_key.has(key)).toBe(true);
        for (let one = 0; one <= 40; one++) expect(table.find(one % 7, one)).toBe(by_key.get(one) ?? 0);
      }
    }),
  );
});

test("keys of larger blocks are all different, and the same for the same prefix", () => {
  const largest = 2 ** 53 - 1;
  const keys = (blocks: readonly number[], block_tokens = 512) => {
    const of = BlockKeys.of(blocks.length * block_tokens, undefined, { block_tokens, blocks });
    return Array.from({ length: of.count }, (_, index) => `${of.low(index)}/${of.high(index)}`);
  };
  expect(keys([1, 2, 2 ** 32 + 1, largest, 2 ** 32])).toHaveLength(160);
  expect(new Set(keys([1, 2, 2 ** 32 + 1, largest, 2 ** 32])).size).toBe(160);
  expect(keys([1, 2]).slice(0, 32)).toEqual(keys([1, 7]).slice(0, 32));
  expect(keys([5], 16)).toEqual(["5/0"]);
  expect(new Set(keys([1, largest], 16_384)).size).toBe(2_048);
  expect(() => keys([1], 100)).toThrow("a multiple of 16, not 100");
});
