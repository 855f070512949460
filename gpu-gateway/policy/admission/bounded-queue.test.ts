import { expect, test } from "vitest";
import { micros } from "../../../schema/core/time.ts";
import { makeCall, makeInstance, makeView, MODEL, second } from "../scheduler/testing.ts";
import { boundedQueue, type BoundedQueueOptions } from "./bounded-queue.ts";

const OPTIONS: BoundedQueueOptions = {
  queued_per_model_max: 100,
  retry_after_min_ms: 100,
  retry_after_max_ms: 60_000,
  retry_after_unknown_ms: 1_000,
  drain_window: second(1),
  models_max: 2,
};
const INSTANCES = [makeView(makeInstance("d1", "decode"))];
const queue = (queued: number, now = 0, model = MODEL) => ({ model, queued, now: micros(now) });

test("a call is queued up to the bound, then refused with queue_full (I8)", () => {
  const admission = boundedQueue(OPTIONS);
  expect(admission.admit(makeCall("a"), queue(99), INSTANCES)).toEqual({ type: "queue" });
  expect(admission.admit(makeCall("b"), queue(100), INSTANCES)).toMatchObject({
    type: "reject",
    failure: { code: "queue_full" },
    retry_after_ms: OPTIONS.retry_after_unknown_ms,
  });
});

test("retry_after is the time in which a quarter of the queue drains at the rate seen", () => {
  const admission = boundedQueue(OPTIONS);
  // 10 a second leave: the queue stays at 100 while 10 are admitted in each second.
  let now = 0;
  for (let n = 0; n < 30; n++) {
    admission.admit(makeCall(`c${n}`), queue(99, now), INSTANCES);
    now += second(1) / 10;
  }
  const refused = admission.admit(makeCall("late"), queue(100, now - 1), INSTANCES);
  expect(refused).toMatchObject({ retry_after_ms: 2_500 });
});

test("a queue that does not drain says so with the longest time", () => {
  const admission = boundedQueue(OPTIONS);
  admission.admit(makeCall("a"), queue(99, 0), INSTANCES);
  const refused = admission.admit(makeCall("b"), queue(100, second(2)), INSTANCES);
  expect(refused).toMatchObject({ retry_after_ms: OPTIONS.retry_after_max_ms });
});

test("a deadline that has passed is refused at the door", () => {
  const decision = boundedQueue(OPTIONS).admit(makeCall("a", { deadline: 5 }), queue(0, 5), INSTANCES);
  expect(decision).toMatchObject({ type: "reject", failure: { code: "deadline_exceeded" } });
});

test("prompt and answer must fit the largest context known; with nothing known the call waits", () => {
  const admission = boundedQueue(OPTIONS);
  const long = makeCall("a", { prompt_tokens: 8_000, max_tokens: 193 });
  expect(admission.admit(long, queue(0), INSTANCES)).toMatchObject({ type: "reject", failure: { code: "context_too_long" } });
  expect(admission.admit(long, queue(0), [])).toEqual({ type: "queue" });
  expect(admission.admit(long, queue(0), [makeView(makeInstance("d1", "decode"), { state: "lost" })])).toEqual({ type: "queue" });
  expect(admission.admit(makeCall("b", { prompt_tokens: 8_000, max_tokens: 192 }), queue(0), INSTANCES)).toEqual({ type: "queue" });
});

test("drain rates are remembered for models_max models (I8)", () => {
  const admission = boundedQueue(OPTIONS);
  admission.admit(makeCall("a"), queue(0, 0, "one"), INSTANCES);
  for (const model of ["two", "three"]) admission.admit(makeCall("a"), queue(0, second(1), model), INSTANCES);
  // "one" was forgotten: with no rate seen, the answer is the unknown one rather than the longest.
  expect(admission.admit(makeCall("b"), queue(100, second(5), "one"), INSTANCES)).toMatchObject({
    retry_after_ms: OPTIONS.retry_after_unknown_ms,
  });
});
