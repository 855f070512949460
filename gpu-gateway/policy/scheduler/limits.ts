/** The scheduler's own limits (I8), and what happens at each. Policies have theirs. Times are policy time. */
import type { Micros } from "../../../schema/core/time.ts";
import { microsFromMs } from "../../../schema/core/time.ts";

export type SchedulerLimits = {
  /** Attempts at a call that may fail; after that many the call fails. */
  readonly failures_max: number;
  /** Two-leg calls bound for one decode instance that have not pulled their KV; at it, no more prefills start for it (D3). */
  readonly deferred_pulls_max: number;
  /** A decode leg must be accepted this long before the prefill instance may drop the KV; else it is cancelled. */
  readonly kv_lease_margin: Micros;
  /** A whole leg that has not been accepted for this long is cancelled. */
  readonly whole_accept: Micros;
  /** A prefill leg is accepted when it has answered, so this bounds a whole prefill; at it, cancelled. */
  readonly prefill_accept: Micros;
  /** A cancelled leg whose end has not been reported for this long is taken as ended. */
  readonly cancel_bound: Micros;
  /** Before the only instance that could serve a failed call is tried again; doubles with each failure. */
  readonly retry_rest: Micros;
  /**
   * An instance that could not be reached is given no call for this long, unless it answers a sample or enters `ready` before.
   * Calls whose decode slot it holds already still try it: their prompts are computed.
   */
  readonly unreachable_rest: Micros;
  /** A launch without outcome fails, and its group is stopped. */
  readonly launch_bound: Micros;
  /** A stopping group whose end has not been reported is taken as stopped. Longer than any call's deadline. */
  readonly stop_bound: Micros;
  /** After a failed launch the pool launches nothing for this long, doubling from the first to the last. */
  readonly launch_backoff_first: Micros;
  readonly launch_backoff_max: Micros;
  /** Elasticity is asked at least this often. */
  readonly elasticity_period: Micros;
};

export const DEFAULT_LIMITS: SchedulerLimits = {
  failures_max: 3,
  deferred_pulls_max: 16,
  kv_lease_margin: microsFromMs(5_000),
  whole_accept: microsFromMs(30_000),
  prefill_accept: microsFromMs(60_000),
  cancel_bound: microsFromMs(2_000),
  retry_rest: microsFromMs(250),
  unreachable_rest: microsFromMs(2_000),
  launch_bound: microsFromMs(600_000),
  stop_bound: microsFromMs(3_600_000),
  launch_backoff_first: microsFromMs(1_000),
  launch_backoff_max: microsFromMs(60_000),
  elasticity_period: microsFromMs(5_000),
};

/** A limit of zero would mean a timer that fires without end: a mistake of whoever wrote the configuration. */
export function checkLimits(limits: SchedulerLimits): void {
  for (const [name, value] of Object.entries(limits))
    if (!Number.isInteger(value) || value <= 0) throw new RangeError(`scheduler limit ${name} must be a positive integer, not ${value}`);
}
