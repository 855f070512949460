import * as fc from "fast-check";
import { expect, test } from "vitest";
import { MONEY_MAX, formatMoney, mulDivRound, parseMoney } from "./money.ts";

const amount = fc.bigInt({ min: -MONEY_MAX, max: MONEY_MAX });

test("what is formatted is parsed back, exactly", () => {
  fc.assert(
    fc.property(amount, (value) => {
      expect(parseMoney(formatMoney(value))).toEqual({ ok: true, value });
    }),
  );
});

test("plain decimals only", () => {
  expect(parseMoney("12.50")).toEqual({ ok: true, value: 12_500_000_000n });
  expect(parseMoney("-0.000000001")).toEqual({ ok: true, value: -1n });
  for (const text of ["", "1e3", "1,000", ".5", "5.", "+1", "0x1", " 1", "NaN", "Infinity"]) {
    expect(parseMoney(text), text).toEqual({ ok: false, reason: "not_a_decimal" });
  }
  expect(parseMoney("0.0000000001")).toEqual({ ok: false, reason: "too_many_decimals" });
  expect(parseMoney("9".repeat(40))).toEqual({ ok: false, reason: "too_large" });
});

test("mulDivRound is within half of the exact quotient, and even at the half", () => {
  const positive = fc.bigInt({ min: 1n, max: 10n ** 30n });
  fc.assert(
    fc.property(amount, positive, positive, (a, numerator, denominator) => {
      const rounded = mulDivRound(a, numerator, denominator);
      const twice_off = 2n * (rounded * denominator - a * numerator);
      const abs = twice_off < 0n ? -twice_off : twice_off;
      expect(abs <= denominator).toBe(true);
      if (abs === denominator) expect(rounded % 2n).toBe(0n);
      expect(mulDivRound(-a, numerator, denominator)).toBe(-rounded);
    }),
  );
  expect([1n, 3n, 5n, -1n, -3n].map((n) => mulDivRound(n, 1n, 2n))).toEqual([0n, 2n, 2n, 0n, -2n]);
  expect(() => mulDivRound(1n, 1n, 0n)).toThrow(RangeError);
});
