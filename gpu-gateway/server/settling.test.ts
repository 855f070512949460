import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { nanos } from "../../schema/core/time.ts";
import { SETTLE_PERIOD_MS } from "./limits.ts";
import { Settling } from "./settling.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("who asks while one runs shares the next one, which begins a period after the last", async () => {
  let began = 0;
  const settling = new Settling(() => Promise.resolve({ type: "settled", watermark: nanos(BigInt(++began)) }));
  const first = [settling.ask(), settling.ask()];
  await vi.advanceTimersByTimeAsync(0);
  expect(began).toBe(1);
  const later = [settling.ask(), settling.ask(), settling.ask()];
  await vi.advanceTimersByTimeAsync(SETTLE_PERIOD_MS - 1);
  expect(began).toBe(1);
  await vi.advanceTimersByTimeAsync(1);
  expect(began).toBe(2);
  const marks = (await Promise.all([...first, ...later])).map((settled) => (settled.type === "settled" ? settled.watermark : null));
  expect(marks).toEqual([1n, 1n, 2n, 2n, 2n]);
});
