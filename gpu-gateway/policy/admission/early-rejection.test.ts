import { expect, test } from "vitest";
import { micros, microsFromMs } from "../../../schema/core/time.ts";
import type { Admission } from "../policies.ts";
import { makeCall, MODEL } from "../scheduler/testing.ts";
import { earlyRejection, type EarlyRejectionOptions } from "./early-rejection.ts";

const takesAll: Admission = { admit: () => ({ type: "queue" }) };
const QUEUE = { model: MODEL, queued: 0, now: micros(0) };
const admit = (ttft_ms: number, tbt_ms: number, more: Partial<EarlyRejectionOptions> = {}) =>
  earlyRejection({
    inner: takesAll,
    expect: () => ({ ttft: microsFromMs(ttft_ms), tbt: microsFromMs(tbt_ms) }),
    ttft_max: microsFromMs(1_000),
    tbt_max: microsFromMs(50),
    retry_after_min_ms: 100,
    retry_after_max_ms: 60_000,
    ...more,
  }).admit(makeCall("a"), QUEUE, []);

test("what meets both objectives is queued; what misses one is refused, with the excess as the time to come back", () => {
  expect(admit(1_000, 50)).toEqual({ type: "queue" });
  expect(admit(3_500, 50)).toMatchObject({
    type: "reject",
    failure: { code: "slo_unattainable", detail: "the first token is expected after 3500 ms; the objective is 1000 ms" },
    retry_after_ms: 2_500,
  });
  expect(admit(900, 51)).toMatchObject({ type: "reject", failure: { code: "slo_unattainable" }, retry_after_ms: 100 });
  expect(admit(900_000, 50)).toMatchObject({ retry_after_ms: 60_000 });
});

test("an objective that is not set is not missed; with nothing to predict from the call waits", () => {
  expect(admit(9_000, 500, { ttft_max: null, tbt_max: null })).toEqual({ type: "queue" });
  expect(admit(0, 0, { expect: () => null })).toEqual({ type: "queue" });
});

test("what is refused anyway is refused with its own reason", () => {
  const full: Admission = { admit: () => ({ type: "reject", failure: { code: "queue_full" }, retry_after_ms: 5 }) };
  expect(admit(9_000, 500, { inner: full })).toMatchObject({ failure: { code: "queue_full" } });
});
