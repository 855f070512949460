import { expect, test } from "vitest";
import { makeCall } from "../scheduler/testing.ts";
import { fcfs } from "./fcfs.ts";

test("the earlier arrival goes first, whatever its id", () => {
  expect(fcfs.compare(makeCall("z", { arrived: 1 }), makeCall("a", { arrived: 2 }))).toBeLessThan(0);
  expect(fcfs.compare(makeCall("a", { arrived: 2 }), makeCall("z", { arrived: 1 }))).toBeGreaterThan(0);
});

test("ties break by call id (I9)", () => {
  expect(fcfs.compare(makeCall("a"), makeCall("b"))).toBeLessThan(0);
  expect(fcfs.compare(makeCall("b"), makeCall("a"))).toBeGreaterThan(0);
  expect(fcfs.compare(makeCall("a"), makeCall("a"))).toBe(0);
});
