import { expect, test } from "vitest";
import { asId } from "../../../schema/core/ids.ts";
import { makeCall, makeInstance } from "../scheduler/testing.ts";
import { keepWhatFits } from "./keep-what-fits.ts";

const I1 = makeInstance("p1", "prefill");
const P1 = I1.instance_id;
const P2 = asId<"instance">("p2");
const cacheOf = (prompts = 100, tokens = 10_000) =>
  keepWhatFits({ prompts_per_instance_max: prompts, tokens_per_instance_max: tokens, block_tokens: 16 });
const program = (name: string, prompt_tokens = 100) => makeCall(`call_${name}`, { program: asId<"program">(name), prompt_tokens });

test("the next prompt of the same agent in the same program is expected to hit what was placed, in whole blocks", () => {
  const cache = cacheOf();
  cache.placed(program("a", 100), I1);
  expect(cache.expected_hit_tokens(program("a", 400), P1)).toBe(96);
  expect(cache.expected_hit_tokens(program("a", 400), P2)).toBe(0);
  expect(cache.expected_hit_tokens(program("b", 400), P1)).toBe(0);
  expect(cache.expected_hit_tokens({ ...program("a", 400), agent: "other" }, P1)).toBe(0);
});

test("the last token is always computed: an identical prompt does not hit as a whole", () => {
  const cache = cacheOf();
  cache.placed(program("a", 32), I1);
  expect(cache.expected_hit_tokens(program("a", 32), P1)).toBe(16);
  expect(cache.expected_hit_tokens(program("a", 1), P1)).toBe(0);
});

test("tenants share nothing, even with one program id (I3)", () => {
  const cache = cacheOf();
  cache.placed(program("a"), I1);
  expect(cache.expected_hit_tokens({ ...program("a"), tenant: asId<"tenant">("ten_b") }, P1)).toBe(0);
});

test("a shorter prompt does not make the longer one forgotten", () => {
  const cache = cacheOf();
  cache.placed(program("a", 320), I1);
  cache.placed(program("a", 16), I1);
  expect(cache.expected_hit_tokens(program("a", 1_000), P1)).toBe(320);
});

test("the least recently placed goes first when there are too many, or too many tokens (I8)", () => {
  const few = cacheOf(2);
  for (const name of ["a", "b", "a", "c"]) few.placed(program(name), I1);
  expect(["a", "b", "c"].map((name) => few.expected_hit_tokens(program(name), P1))).toEqual([96, 0, 96]);
  const small = cacheOf(100, 250);
  for (const name of ["a", "b", "c"]) small.placed(program(name), I1);
  expect(["a", "b", "c"].map((name) => small.expected_hit_tokens(program(name), P1))).toEqual([0, 96, 96]);
  small.placed(program("huge", 1_000), I1);
  expect(["b", "c", "huge"].map((name) => small.expected_hit_tokens(program(name), P1))).toEqual([0, 0, 0]);
});

test("a lost instance holds nothing", () => {
  const cache = cacheOf();
  cache.placed(program("a"), I1);
  cache.lost(P1);
  expect(cache.expected_hit_tokens(program("a"), P1)).toBe(0);
});
