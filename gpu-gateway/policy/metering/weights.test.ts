import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { asId } from "../../../schema/core/ids.ts";
import { weightByTokens, WEIGHT_MAX } from "./weights.ts";

const leg = (role: "prefill" | "decode" | "whole", prompt_tokens: number, hit_tokens: number, kv_tokens: number, holding = false) =>
  weightByTokens.weight({ leg_id: asId<"leg">("l"), role, holding, prompt_tokens, hit_tokens, kv_tokens });

describe("weightByTokens", () => {
  test("prefill pays for the tokens that the cache does not hold", () => {
    expect(leg("prefill", 1_000, 0, 1_001)).toBe(100_000);
    expect(leg("prefill", 1_000, 900, 1_001)).toBe(10_000);
    expect(leg("prefill", 1_000, 1_000, 1_001)).toBe(1);
  });

  test("decode pays for its step and for reading its KV", () => {
    expect(leg("decode", 4_000, 0, 0)).toBe(350);
    expect(leg("decode", 4_000, 0, 4_000)).toBe(610);
  });

  test("holding pays for KV alone, far less than working", () => {
    expect(leg("prefill", 4_000, 0, 4_000, true)).toBe(260);
    expect(leg("prefill", 4_000, 0, 4_000, true)).toBeLessThan(leg("decode", 4_000, 0, 4_000));
  });

  test("a whole leg lies between its decode and its prefill, nearer to decode the longer it answers", () => {
    const short = leg("whole", 2_000, 0, 2_010);
    const long = leg("whole", 2_000, 0, 4_000);
    expect(short).toBeGreaterThan(long);
    expect(long).toBeGreaterThan(leg("decode", 2_000, 0, 2_000));
    expect(short).toBeLessThan(leg("prefill", 2_000, 0, 2_010));
  });

  test("is a positive integer with a limit, whatever comes", () => {
    const count = fc.oneof(fc.integer({ min: -5, max: 200_000 }), fc.constantFrom(0, 1e15, Number.NaN, Number.POSITIVE_INFINITY));
    fc.assert(
      fc.property(fc.constantFrom("prefill", "decode", "whole"), count, count, count, fc.boolean(), (role, prompt, hit, kv, holding) => {
        const weight = leg(role, prompt, hit, kv, holding);
        expect(Number.isSafeInteger(weight) && weight >= 1 && weight <= WEIGHT_MAX).toBe(true);
      }),
      { numRuns: 1_000 },
    );
  });
});
