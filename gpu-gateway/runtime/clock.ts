/** The runtime's own clock: policy time. Monotonic, so that a step of the wall clock moves no deadline. */
import type { Micros } from "../../schema/core/time.ts";

export interface Clock {
  now(): Micros;
}

/** Microseconds since this gateway's epoch began, which is when the clock is made. */
export function monotonicClock(): Clock {
  const origin_ns = process.hrtime.bigint();
  return { now: () => Number((process.hrtime.bigint() - origin_ns) / 1_000n) as Micros };
}
