import * as fc from "fast-check";
import { expect, test } from "vitest";
import { asId } from "../../../schema/core/ids.ts";
import { makeCall, makeInstance } from "../scheduler/testing.ts";
import type { Call } from "../vocabulary.ts";
import { InstanceBlocks } from "./instance-blocks.ts";
import { keepWhatFits } from "./keep-what-fits.ts";
import { prefixIndex } from "./prefix-index.ts";

const I1 = makeInstance("p1", "prefill", { kv_tokens: 160 });
const I2 = makeInstance("p2", "prefill", { kv_tokens: 160 });
const P1 = I1.instance_id;
const indexOf = (blocks_per_instance_max = 1_000, kv_share = 1) =>
  prefixIndex({
    blocks_per_instance_max,
    kv_share,
    otherwise: keepWhatFits({ prompts_per_instance_max: 10, tokens_per_instance_max: 10_000, block_tokens: 16 }),
  });
const ask = (blocks: readonly number[], init: Partial<Call> = {}): Call => ({
  ...makeCall("c", { prompt_tokens: blocks.length * 16 + 1 }),
  prefix: { block_tokens: 16, blocks },
  ...init,
});

test("the longest known beginning, on that instance alone", () => {
  const index = indexOf();
  index.placed(ask([1, 2, 3]), I1);
  expect(index.expected_hit_tokens(ask([1, 2, 3, 4]), P1)).toBe(48);
  expect(index.expected_hit_tokens(ask([1, 2, 9]), P1)).toBe(32);
  expect(index.expected_hit_tokens(ask([9, 92, 93]), P1)).toBe(0);
  expect(index.expected_hit_tokens(ask([1, 2, 3]), I2.instance_id)).toBe(0);
});

test("the last token is always computed, and a block that is not full is not shared", () => {
  const index = indexOf();
  index.placed(ask([1, 2], { prompt_tokens: 32 }), I1);
  expect(index.expected_hit_tokens(ask([1, 2], { prompt_tokens: 32 }), P1)).toBe(16);
  // 40 tokens are two blocks and a half: the third hash names a block that is not full.
  index.placed(ask([5, 6, 7], { prompt_tokens: 40 }), I1);
  expect(index.expected_hit_tokens(ask([5, 6, 7, 8]), P1)).toBe(32);
});

test("tenants share nothing, even with equal hashes (I3)", () => {
  const index = indexOf();
  index.placed(ask([1, 2, 3]), I1);
  expect(index.expected_hit_tokens(ask([1, 2, 3, 4], { tenant: asId<"tenant">("ten_b") }), P1)).toBe(0);
});

test("the KV of the instance bounds it: the end of what was used longest ago goes first (I8)", () => {
  const index = indexOf();
  index.placed(ask([1, 2, 3, 4, 5, 6]), I1);
  index.placed(ask([11, 12, 13, 14, 15, 16]), I1);
  // Ten blocks fit: 6, 5 went.
  expect(index.expected_hit_tokens(ask([1, 2, 3, 4, 5, 6]), P1)).toBe(64);
  expect(index.expected_hit_tokens(ask([11, 12, 13, 14, 15, 16]), P1)).toBe(96);
  index.placed(ask([1, 2, 21]), I1);
  expect(index.expected_hit_tokens(ask([1, 2, 3, 4]), P1)).toBe(48);
});

test("a lost instance holds nothing; a call without a prefix is guessed at as before", () => {
  const index = indexOf();
  index.placed(ask([1, 2, 3]), I1);
  index.placed(makeCall("x"), I1);
  expect(index.expected_hit_tokens(makeCall("y", { prompt_tokens: 400 }), P1)).toBe(96);
  index.lost(P1);
  expect(index.expected_hit_tokens(ask([1, 2, 3, 4]), P1)).toBe(0);
  expect(index.expected_hit_tokens(makeCall("y", { prompt_tokens: 400 }), P1)).toBe(0);
});

/** Prompts as paths in a tree of which each node is one block: the hash names the path. */
const path = fc.array(fc.nat(2), { minLength: 1, maxLength: 8 });
const hashesOf = (choices: readonly number[]): readonly number[] =>
  choices.map((_, n) => choices.slice(0, n + 1).reduce((h, c) => h * 4 + c + 1, 0));

test("against a plain model: bounded, closed under beginnings, and the halving finds what counting finds", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(2), path), { maxLength: 60 }), fc.integer({ min: 1, max: 12 }), (prompts, blocks_max) => {
      const blocks = new InstanceBlocks(1_000_000, blocks_max);
      /** Most recently used last. */
      let model: string[] = [];
      for (const [who, choices] of prompts) {
        const tenant = asId<"tenant">(`t${who}`);
        const hashes = hashesOf(choices);
        blocks.renew(tenant, { block_tokens: 16, blocks: hashes }, hashes.length);
        for (const hash of hashes.slice(0, blocks_max).toReversed())
          model = [...model.filter((key) => key !== `${who} ${hash}`), `${who} ${hash}`];
        model = model.slice(Math.max(0, model.length - blocks_max));
        expect(blocks.tokens).toBe(model.length * 16);
        for (const [other, asked] of prompts) {
          const known = hashesOf(asked);
          const missing = known.findIndex((hash) => !model.includes(`${other} ${hash}`));
          expect(blocks.leading(asId<"tenant">(`t${other}`), known)).toBe(missing < 0 ? known.length : missing);
        }
        expect(blocks.tenants).toBe(new Set(model.map((key) => key.split(" ")[0])).size);
      }
    }),
    { numRuns: 200 },
  );
});
