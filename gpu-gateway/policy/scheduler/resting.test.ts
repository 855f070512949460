/** I8: calls that rest after a failure come back to the queue, and admission counts them as if they stood in it. */
import { expect, test } from "vitest";
import { micros } from "../../../schema/core/time.ts";
import { brief, Desk, makeInstance } from "./testing.ts";

const at = (ms: number) => micros(ms * 1_000);

test("a row of failures does not carry the queue past its bound", () => {
  const desk = new Desk({ queued_per_model_max: 1 }).up(makeInstance("b1", "both", { slots: 1 }));
  desk.arrive("c1");
  desk.arrive("c2");
  expect(brief(desk.arrive("c3"))).toEqual(["reject c3: queue_full"]);
  expect(brief(desk.failed("c1.0.whole"))).toEqual(["start c2.0.whole on b1"]);
  // Nobody stands in the queue, but c1 will.
  expect(brief(desk.at(at(1)).arrive("c4"))).toEqual(["reject c4: queue_full"]);
  desk.at(at(300)).timer();
  expect(desk.scheduler.snapshot().queues).toEqual([{ model: "llama-3-8b", queued: 1 }]);
  expect(brief(desk.arrive("c5"))).toEqual(["reject c5: queue_full"]);
});

test("one that is cancelled while it rests makes room", () => {
  const desk = new Desk({ queued_per_model_max: 1 }).up(makeInstance("b1", "both", { slots: 1 }));
  desk.arrive("c1");
  desk.failed("c1.0.whole");
  expect(brief(desk.arrive("c2"))).toEqual(["reject c2: queue_full"]);
  desk.cancel("c1");
  expect(brief(desk.arrive("c3"))).toEqual(["start c3.0.whole on b1"]);
});
