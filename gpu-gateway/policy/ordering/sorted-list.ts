/**
 * A sorted list of short runs. Like a heap it gives the first at once and takes thousands without slowing down; unlike a heap
 * it also says who stands at a place, which is what clients are told while they wait. Adding and removing cost one binary
 * search over the runs and one within a run.
 */
const RUN_MAX = 256;

export class SortedList<T> {
  readonly #compare: (a: T, b: T) => number;
  readonly #runs: T[][] = [];
  #size = 0;

  constructor(compare: (a: T, b: T) => number) {
    this.#compare = compare;
  }

  get size(): number {
    return this.#size;
  }

  first(): T | undefined {
    return this.#runs[0]?.[0];
  }

  add(item: T): void {
    this.#size += 1;
    const index = Math.min(this.#runFor(item), this.#runs.length - 1);
    const run = this.#runs[index];
    if (run === undefined) {
      this.#runs.push([item]);
      return;
    }
    run.splice(this.#placeIn(run, item), 0, item);
    if (run.length > RUN_MAX) this.#runs.splice(index + 1, 0, run.splice(RUN_MAX >> 1));
  }

  /** False if it is not there. */
  remove(item: T): boolean {
    const index = this.#runFor(item);
    const run = this.#runs[index];
    if (run === undefined) return false;
    const place = this.#placeIn(run, item);
    if (run[place] !== item) return false;
    run.splice(place, 1);
    if (run.length === 0) this.#runs.splice(index, 1);
    this.#size -= 1;
    return true;
  }

  /** Visits those at places 1, 4, 16, 64, …, counted from the front. */
  visitMilestones(visit: (item: T, place: number) => void): void {
    let place = 1;
    let before = 0;
    for (const run of this.#runs) {
      while (place <= before + run.length) {
        const item = run[place - before - 1];
        if (item !== undefined) visit(item, place);
        place *= 4;
      }
      before += run.length;
    }
  }

  /** How many go before it, and itself. */
  placeOf(item: T): number {
    const index = this.#runFor(item);
    let before = 0;
    for (let i = 0; i < index; i++) before += this.#runs[i]?.length ?? 0;
    const run = this.#runs[index];
    return before + (run === undefined ? 0 : this.#placeIn(run, item)) + 1;
  }

  /** The first run whose last member does not go before the item. */
  #runFor(item: T): number {
    let low = 0;
    let high = this.#runs.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const last = this.#runs[middle]?.at(-1);
      if (last !== undefined && this.#compare(last, item) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #placeIn(run: readonly T[], item: T): number {
    let low = 0;
    let high = run.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const there = run[middle];
      if (there !== undefined && this.#compare(there, item) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
