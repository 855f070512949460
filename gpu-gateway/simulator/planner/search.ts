/**
 * Finds the highest load that a configuration holds, by bisection, as DistServe (OSDI '24) does: the goodput. Loads are multiples of the
 * workload's own. Assumes what is true but for noise: what holds at one load holds at every lower one.
 */
export type Probe = (multiple: number) => boolean;
export type Limit = { readonly holds: number | null; readonly fails: number | null };

export type RateSearch = {
  /** Ends when what fails is within this share of what holds. */
  readonly tolerance: number;
  /** Two multiples of one level are one load. */
  readonly level: (multiple: number) => number;
  readonly stopped: () => boolean;
};

/** Loads that are tried lie between these. */
export const MULTIPLE_MIN = 1 / 64;
export const MULTIPLE_MAX = 1_024;

/** Whatever the tolerance, a search ends here. */
const PROBES_MAX = 64;

/** From `start`: outwards by doubling until one holds and one fails, then halving in between (on a logarithmic scale). */
export function highestLoad(probe: Probe, start: number, search: RateSearch): Limit {
  let holds: number | null = null;
  let fails: number | null = null;
  let multiple = Math.min(MULTIPLE_MAX, Math.max(MULTIPLE_MIN, start));
  for (let n = 0; n < PROBES_MAX && !search.stopped(); n++) {
    const held = probe(multiple);
    if (search.stopped()) break; // what was interrupted says nothing
    if (held) holds = multiple;
    else fails = multiple;
    if (holds !== null && fails !== null) {
      if (fails / holds <= 1 + search.tolerance || search.level(Math.sqrt(holds * fails)) === search.level(holds)) break;
      multiple = Math.sqrt(holds * fails);
    } else if (fails === null) {
      if (multiple >= MULTIPLE_MAX) break;
      multiple = Math.min(MULTIPLE_MAX, multiple * 2);
    } else {
      if (multiple <= MULTIPLE_MIN || search.level(multiple / 2) === search.level(multiple)) break;
      multiple = Math.max(MULTIPLE_MIN, multiple / 2);
    }
  }
  return { holds, fails };
}

/** The least whole number in [min, max] that holds, by bisection; null: not even the most does. */
export function fewest(min: number, max: number, holds: (n: number) => boolean, stopped: () => boolean): number | null {
  let [low, high] = [min, max];
  if (!holds(high) || stopped()) return null;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const held = holds(middle);
    if (stopped()) return high;
    if (held) high = middle;
    else low = middle + 1;
  }
  return high;
}
