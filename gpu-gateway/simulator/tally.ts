/** What a run adds up: gaps between tokens in buckets about 1 % wide, and counts. */

const LOG_WIDTH = Math.log(1.01);
/** Up to a day; longer gaps count there. */
const BUCKETS = Math.ceil(Math.log(86_400e6) / LOG_WIDTH) + 1;

export class Tally {
  scheduler_events = 0;
  readonly #buckets = new Float64Array(BUCKETS);
  /** Sequences that decode together have the same gaps. */
  #gap = -1;
  #bucket = 0;

  gap(us: number): void {
    if (us !== this.#gap) {
      this.#gap = us;
      this.#bucket = us <= 1 ? 0 : Math.min(BUCKETS - 1, Math.floor(Math.log(us) / LOG_WIDTH));
    }
    this.#buckets[this.#bucket] = (this.#buckets[this.#bucket] ?? 0) + 1;
  }

  /** Lower bound in microseconds → count. */
  gaps(): ReadonlyMap<number, number> {
    const gaps = new Map<number, number>();
    for (const [bucket, count] of this.#buckets.entries()) if (count > 0) gaps.set(Math.round(Math.exp(bucket * LOG_WIDTH)), count);
    return gaps;
  }
}
