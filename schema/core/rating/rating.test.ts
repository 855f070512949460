import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { mulDivRound, parseMoney } from "../money.ts";
import { NANOS_PER_MINUTE, nanos } from "../time.ts";
import { usageReport } from "../wire/http.ts";
import { apportion } from "./apportion.ts";
import { TOKENS_PER_PRICE, chargeNumerator, chargeOf } from "./charge.ts";
import { NANOS_PER_HOUR, costOf } from "./cost.ts";
import { EXAMPLE_PRICES, type GpuPrice, type TokenPrice } from "./prices.ts";
import { type PricedUsage, buildUsageReport, reportPeriod } from "./report.ts";

const gpu = EXAMPLE_PRICES.find((price): price is GpuPrice => price.kind === "gpu_hour")!;
const token = EXAMPLE_PRICES.find((price): price is TokenPrice => price.kind === "tokens")!;

describe("apportion", () => {
  const numerators = fc.array(fc.bigInt({ min: -(10n ** 30n), max: 10n ** 30n }), { maxLength: 40 });
  const denominator = fc.bigInt({ min: 1n, max: 10n ** 20n });

  test("rows add up to the total, which is rounded once, and none is a unit away from its share", () => {
    fc.assert(
      fc.property(numerators, denominator, (n, d) => {
        const { total, rows } = apportion(n, d);
        expect(total).toBe(
          mulDivRound(
            n.reduce((a, b) => a + b, 0n),
            1n,
            d,
          ),
        );
        expect(rows.reduce<bigint>((a, b) => a + b, 0n)).toBe(total);
        rows.forEach((row, i) => {
          const off = row * d - n[i]!;
          expect(off < d && off > -d).toBe(true);
        });
      }),
    );
  });

  test("the unit that is left goes to the largest remainder, at a tie to the first", () => {
    expect(apportion([1n, 2n, 0n], 3n).rows).toEqual([0n, 1n, 0n]);
    expect(apportion([2n, 2n, 2n], 4n)).toEqual({ total: 2n, rows: [1n, 1n, 0n] });
    expect(apportion([], 7n)).toEqual({ total: 0n, rows: [] });
  });
});

test("an hour of a GPU costs its price, a million tokens theirs; cached ones are not paid as prompt", () => {
  expect(costOf(NANOS_PER_HOUR, gpu)).toBe(gpu.per_gpu_hour);
  const million = TOKENS_PER_PRICE;
  expect(chargeOf({ prompt: million, cached: 0n, completion: 0n }, token)).toBe(token.prompt_per_million);
  expect(chargeOf({ prompt: million, cached: million, completion: 0n }, token)).toBe(token.cached_per_million);
  expect(chargeOf({ prompt: 0n, cached: 0n, completion: million }, token)).toBe(token.completion_per_million);
  expect(chargeNumerator({ prompt: 3n, cached: 1n, completion: 2n }, token)).toBe(
    2n * token.prompt_per_million + token.cached_per_million + 2n * token.completion_per_million,
  );
});

describe("the report", () => {
  const amount = fc.bigInt({ min: 0n, max: 10n ** 15n });
  const part: fc.Arbitrary<PricedUsage> = fc
    .tuple(fc.constantFrom("a", "b", "c", null), fc.boolean(), fc.nat(50), fc.array(amount, { minLength: 5, maxLength: 5 }))
    .map(([agent, is_gpu, calls, [a, b, c, d, e]]) => ({
      key: { agent },
      price: is_gpu ? gpu.price : token.price,
      calls: is_gpu ? 0 : calls,
      prompt_tokens: is_gpu ? 0n : a! + b!,
      cached_tokens: is_gpu ? 0n : b!,
      completion_tokens: is_gpu ? 0n : c!,
      prefill_gpu_ns: is_gpu ? a! : 0n,
      decode_gpu_ns: is_gpu ? d! : 0n,
      holding_gpu_ns: is_gpu ? e! : 0n,
    }));
  const build = (usage: PricedUsage[]) =>
    buildUsageReport({
      from: nanos(0n),
      to: nanos(NANOS_PER_MINUTE),
      group_by: ["agent"],
      currency: "EUR",
      usage,
      prices: EXAMPLE_PRICES,
      edge: { requests: 1n, wall_ns: 2n, session_ns: 3n, tool_calls: 4n },
      cells: [],
      usage_rows: { written: 0n, missing: {} },
    });

  test("is what the wire schema says, its rows add up to its total exactly, in any order of its input (I6)", () => {
    fc.assert(
      fc.property(fc.array(part, { maxLength: 30 }), (usage) => {
        const report = build(usage);
        expect(usageReport.parse(report)).toEqual(report);
        const money = (text: string) => {
          const parsed = parseMoney(text);
          if (!parsed.ok) throw new Error(parsed.reason);
          return parsed.value;
        };
        for (const field of ["cost", "charge"] as const) {
          expect(report.rows.reduce((sum, row) => sum + money(row[field]), 0n)).toBe(money(report.total[field]));
        }
        expect(report.rows.reduce((sum, row) => sum + BigInt(row.decode_gpu_ns), 0n)).toBe(BigInt(report.total.decode_gpu_ns));
        expect(report.rows.reduce((sum, row) => sum + row.calls, 0)).toBe(report.total.calls);
        expect(build(usage.toReversed())).toEqual(report);
      }),
    );
  });

  test("usage without a price is named, not given away silently", () => {
    const usage = { key: {}, price: null, calls: 1, prompt_tokens: 5n, cached_tokens: 0n, completion_tokens: 7n };
    expect(build([{ ...usage, prefill_gpu_ns: 1n, decode_gpu_ns: 2n, holding_gpu_ns: 3n }])).toMatchObject({
      unpriced: { gpu_ns: "6", tokens: "12" },
      total: { cost: "0", charge: "0" },
    });
    expect(build([])).not.toHaveProperty("unpriced");
  });

  test("a period is widened to whole minutes", () => {
    expect(reportPeriod(nanos(1n), nanos(NANOS_PER_MINUTE + 1n))).toEqual({ from: 0n, to: 2n * NANOS_PER_MINUTE });
    expect(reportPeriod(nanos(NANOS_PER_MINUTE), nanos(NANOS_PER_MINUTE))).toEqual({ from: NANOS_PER_MINUTE, to: NANOS_PER_MINUTE });
  });
});
