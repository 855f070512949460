/**
 * Finds a cached block by its key: open addressing with linear probing in one typed array, for a lookup happens for every 16 tokens of
 * every prompt. The keys lie beside the blocks; a deletion moves what stood behind it, so that no tombstones gather (Knuth 6.4 R).
 */
export class BlockTable {
  readonly #slots: Int32Array;
  readonly #mask: number;
  readonly #low: Int32Array;
  readonly #high: Int32Array;

  /** Blocks are 1 … `blocks_max`; 0 is none. */
  constructor(blocks_max: number) {
    let size = 16;
    while (size < 2 * (blocks_max + 1)) size *= 2;
    this.#slots = new Int32Array(size);
    this.#mask = size - 1;
    this.#low = new Int32Array(blocks_max + 1);
    this.#high = new Int32Array(blocks_max + 1);
  }

  /** 0: nobody has it. */
  find(low: number, high: number): number {
    const slots = this.#slots;
    for (let at = mix(low, high) & this.#mask; ; at = (at + 1) & this.#mask) {
      const block = slots[at] ?? 0;
      if (block === 0 || (this.#low[block] === low && this.#high[block] === high)) return block;
    }
  }

  /** The key has no block yet, and the block no key. */
  add(low: number, high: number, block: number): void {
    this.#low[block] = low;
    this.#high[block] = high;
    let at = mix(low, high) & this.#mask;
    while (this.#slots[at] !== 0) at = (at + 1) & this.#mask;
    this.#slots[at] = block;
  }

  remove(block: number): void {
    const slots = this.#slots;
    let hole = this.#home(block);
    while (slots[hole] !== block) hole = (hole + 1) & this.#mask;
    for (let at = hole; ;) {
      at = (at + 1) & this.#mask;
      const moved = slots[at] ?? 0;
      if (moved === 0) break;
      // It may move back into the hole unless its home lies behind it.
      const home = this.#home(moved);
      if (((at - home) & this.#mask) < ((at - hole) & this.#mask)) continue;
      slots[hole] = moved;
      hole = at;
    }
    slots[hole] = 0;
  }

  clear(): void {
    this.#slots.fill(0);
  }

  #home(block: number): number {
    return mix(this.#low[block] ?? 0, this.#high[block] ?? 0) & this.#mask;
  }
}

/** The finaliser of MurmurHash3 over both halves. */
function mix(low: number, high: number): number {
  let h = low ^ Math.imul(high, 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
