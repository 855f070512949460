/** At most `limit` pieces of work at once; further ones wait in order of arrival. */
export class Semaphore {
  readonly limit: number;
  #in_use = 0;
  #peak = 0;
  readonly #queue: (() => void)[] = [];

  constructor(limit: number) {
    if (!Number.isInteger(limit) || limit < 1) throw new RangeError("a semaphore's limit is a positive integer");
    this.limit = limit;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#in_use >= this.limit) await new Promise<void>((resolve) => this.#queue.push(resolve));
    else this.#in_use += 1;
    this.#peak = Math.max(this.#peak, this.#in_use);
    try {
      return await work();
    } finally {
      // The place passes straight to the next in line: nobody who comes now can overtake.
      const next = this.#queue.shift();
      if (next) next();
      else this.#in_use -= 1;
    }
  }

  get in_use(): number {
    return this.#in_use;
  }
  get waiting(): number {
    return this.#queue.length;
  }
  /** The most that ever ran at once. */
  get peak(): number {
    return this.#peak;
  }
}
