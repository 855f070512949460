/* oxlint-disable no-restricted-globals -- the platform's calendar is what ours is held against */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { NANOS_PER_MINUTE, formatGpuSeconds, formatInstant, minuteOf, nanos } from "./time.ts";

test("an instant reads as the platform's own calendar says, to year 9999, with its nanoseconds", () => {
  const last_ms = Date.UTC(9999, 11, 31, 23, 59, 59, 999);
  fc.assert(
    fc.property(fc.integer({ min: 0, max: last_ms }), fc.integer({ min: 0, max: 999_999 }), (ms, below) => {
      const text = formatInstant(nanos(BigInt(ms) * 1_000_000n + BigInt(below)));
      expect(text).toBe(`${new Date(ms).toISOString().slice(0, -1)}${below.toString().padStart(6, "0")}Z`);
    }),
  );
  expect(formatInstant(nanos(951_782_400_000_000_001n))).toBe("2000-02-29T00:00:00.000000001Z");
});

test("a minute begins at or before its instants, and they end before the next", () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 10n ** 20n }), (value) => {
      const minute = minuteOf(nanos(value));
      return minute % NANOS_PER_MINUTE === 0n && minute <= value && value < minute + NANOS_PER_MINUTE;
    }),
  );
});

test("GPU-seconds are exact", () => {
  expect(formatGpuSeconds(1n)).toBe("0.000000001");
  expect(formatGpuSeconds(-1_500_000_000n)).toBe("-1.500000000");
  expect(formatGpuSeconds(10n ** 30n)).toBe(`1${"0".repeat(21)}.000000000`);
});
