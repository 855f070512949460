/** How long to wait before the next attempt: doubling with full jitter. Chance is an argument. */
export type Backoff = (failures: number) => number;

const BACKOFF_MS_MIN = 100;
const BACKOFF_MS_MAX = 10_000;

export function jitteredBackoff(random: () => number = Math.random, ms_min = BACKOFF_MS_MIN, ms_max = BACKOFF_MS_MAX): Backoff {
  return (failures) => Math.round(Math.min(ms_max, ms_min * 2 ** Math.min(failures, 16)) * (0.5 + random() / 2));
}
