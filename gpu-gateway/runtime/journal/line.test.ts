/** The cell's line of time under a wall clock that steps: monotonic time moves it, and nothing else. */
import { describe, expect, test } from "vitest";
import { nanos } from "../../../schema/core/time.ts";
import { createTimeline } from "./line.ts";

const HOUR = 3_600_000_000_000n;
const WALL = 1_795_000_000_000_000_000n;

function lineFrom(last_t: bigint | null) {
  const clock = { wall: WALL, hr: 7_000n };
  const line = createTimeline({
    last_t: last_t === null ? null : nanos(last_t),
    wall_now_ns: () => clock.wall,
    hrtime_ns: () => clock.hr,
  });
  return { clock, line };
}

describe("begins", () => {
  test.each([
    { what: "at the wall clock", last_t: null, first: WALL },
    { what: "at the wall clock where that is ahead of the journal", last_t: WALL - HOUR, first: WALL },
    { what: "after the journal where the wall clock is behind it", last_t: WALL + HOUR, first: WALL + HOUR + 1n },
    { what: "after the journal where both say the same", last_t: WALL, first: WALL + 1n },
  ])("$what", ({ last_t, first }) => expect(lineFrom(last_t).line.now()).toBe(first));
});

test.each([
  { what: "steps back an hour", step: -HOUR },
  { what: "steps forward an hour", step: HOUR },
])("a wall clock that $what moves nothing", ({ step }) => {
  for (const last_t of [null, WALL + HOUR / 2n]) {
    const { clock, line } = lineFrom(last_t);
    const begin = line.now();
    clock.hr += 5_000n;
    expect(line.now() - begin).toBe(5_000n);
    clock.wall += step;
    expect(line.now() - begin).toBe(5_001n); // asked twice in one nanosecond
    clock.hr += 5_000n;
    expect(line.now() - begin).toBe(10_000n);
  }
});

test("instants never repeat, nor go back, where monotonic time stands still; it catches up, and nothing is added", () => {
  const { clock, line } = lineFrom(null);
  const asked = Array.from({ length: 100 }, () => line.now());
  expect(asked).toEqual(Array.from({ length: 100 }, (_, n) => WALL + BigInt(n)));
  clock.hr += 50n;
  expect(line.now()).toBe(WALL + 100n);
  clock.hr += 1_000n;
  expect(line.now()).toBe(WALL + 1_050n);
});
