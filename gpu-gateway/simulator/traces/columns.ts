/** Columns that grow: numbers exact to 2^53, without an object for each. */
export class Numbers {
  #values = new Float64Array(1_024);
  length = 0;

  push(value: number): void {
    if (this.length === this.#values.length) {
      const wider = new Float64Array(this.length * 2);
      wider.set(this.#values);
      this.#values = wider;
    }
    this.#values[this.length++] = value;
  }

  at(index: number): number {
    const value = this.#values[index];
    if (value === undefined || index >= this.length) throw new RangeError(`no row ${index} of ${this.length}`);
    return value;
  }

  slice(from: number, to: number): number[] {
    return Array.from(this.#values.subarray(from, to));
  }
}

/** Lists of block names, one after the other. */
export class Blocks {
  readonly #values = new Numbers();
  readonly #ends = new Numbers();

  get total(): number {
    return this.#values.length;
  }

  push(blocks: readonly number[]): void {
    for (const block of blocks) this.#values.push(block);
    this.#ends.push(this.#values.length);
  }

  at(row: number): number[] {
    return this.#values.slice(row === 0 ? 0 : this.#ends.at(row - 1), this.#ends.at(row));
  }
}
