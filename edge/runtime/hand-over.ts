/** Items pass one at a time from a giver to a taker; the giver waits until its item was taken, or learns that nobody wants more. */
export class HandOver<T> {
  #item: { value: T } | undefined;
  #over = false;
  #wake_giver: (() => void) | undefined;
  #wake_taker: (() => void) | undefined;

  /** `enough`: the taker left. */
  async give(value: T): Promise<"on" | "enough"> {
    if (this.#over) return "enough";
    this.#item = { value };
    this.#wake_taker?.();
    await new Promise<void>((resolve) => (this.#wake_giver = resolve));
    return this.#over ? "enough" : "on";
  }

  /** No more will be given. */
  end(): void {
    this.#over = true;
    this.#wake_taker?.();
  }

  /** No more is wanted. */
  leave(): void {
    this.#over = true;
    this.#wake_giver?.();
  }

  async *take(): AsyncGenerator<T> {
    for (;;) {
      const item = this.#item;
      if (item) {
        this.#item = undefined;
        yield item.value;
        this.#wake_giver?.();
        continue;
      }
      if (this.#over) return;
      await new Promise<void>((resolve) => (this.#wake_taker = resolve));
    }
  }
}
