import { expect, test } from "vitest";
import { makeCall } from "../scheduler/testing.ts";
import { byArrival, fcfs } from "./fcfs.ts";

test("the earlier arrival goes first, whatever its id", () => {
  expect(byArrival(makeCall("z", { arrived: 1 }), makeCall("a", { arrived: 2 }))).toBeLessThan(0);
  expect(byArrival(makeCall("a", { arrived: 2 }), makeCall("z", { arrived: 1 }))).toBeGreaterThan(0);
});

test("ties break by call id (I9)", () => {
  expect(byArrival(makeCall("a"), makeCall("b"))).toBeLessThan(0);
  expect(byArrival(makeCall("b"), makeCall("a"))).toBeGreaterThan(0);
  expect(byArrival(makeCall("a"), makeCall("a"))).toBe(0);
});

test("a queue gives the first, whoever was added first, and says where each stands", () => {
  const queue = fcfs.queue("m");
  const [late, early, middle] = [30, 10, 20].map((arrived) => ({ call: makeCall(`c${arrived}`, { arrived }) }));
  if (late === undefined || early === undefined || middle === undefined) throw new Error("three calls");
  for (const item of [late, early, middle]) queue.add(item);
  expect(queue.first()).toBe(early);
  expect([early, middle, late].map((item) => queue.placeOf(item))).toEqual([1, 2, 3]);
  expect(queue.remove(early) && !queue.remove(early)).toBe(true);
  expect(queue.first()).toBe(middle);
});
