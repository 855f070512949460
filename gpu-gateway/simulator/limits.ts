/**
 * The pace and the limits of the live gateway, as virtual time keeps them. The runtime's own (runtime/limits.ts, runtime/meter.ts) cannot be
 * imported from a pure room; limits.test.ts holds the two together.
 */
export const CALLS_IN_FLIGHT_MAX = 16_384; // accepted calls not yet ended: `queue_full`
export const PROGRESS_TICK_MS = 50;
export const SAMPLE_PERIOD_MS = 1_000;
export const HEALTH_FAILURES_MAX = 3;
export const PROBE_PERIOD_MS = 200;
export const STOP_DRAIN_MS_MAX = 30_000;
export const ALIVE_MS = 500;
export const USAGE_CUT_MS = 5_000;
