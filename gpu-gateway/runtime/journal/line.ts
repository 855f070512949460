/**
 * The cell's own line of time: UTC nanoseconds that never go back and never repeat, whatever the wall clock does. It starts at the wall clock,
 * or after the last journalled instant if that is later, and from then on advances by monotonic time only. A wall clock
 * that steps bills no second twice; a restart takes the wall clock's word again, if it is ahead. Where monotonic time stands still (a suspended
 * machine), so does the line, until the next start.
 */
import { nanos, type Nanos } from "../../../schema/core/time.ts";

export type Timeline = { now(): Nanos };

export type TimelineOptions = {
  /** The last instant that was journalled. */
  readonly last_t: Nanos | null;
  readonly wall_now_ns: () => bigint;
  readonly hrtime_ns: () => bigint;
};

export function createTimeline({ last_t, wall_now_ns, hrtime_ns }: TimelineOptions): Timeline {
  const wall = wall_now_ns();
  let last = last_t ?? wall - 1n;
  const start = wall > last ? wall : last + 1n;
  const origin = hrtime_ns();
  return {
    now() {
      const next = start + (hrtime_ns() - origin);
      last = next > last ? next : last + 1n;
      return nanos(last);
    },
  };
}
