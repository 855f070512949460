/**
 * Finds a cached block by its key: a hash table with chains, in two typed arrays, for a lookup happens for every 16 tokens of every
 * prompt. What it costs is memory out of reach of the processor's caches, so what belongs together lies together: a block's key, and the
 * next in its chain, side by side; and the parts of one larger block (block-keys.ts) in neighbouring buckets.
 */
import { PART_SHIFT } from "./block-keys.ts";

const [LOW, HIGH, NEXT] = [0, 1, 2] as const;
const STRIDE = 4;

export class BlockTable {
  /** By hash: a block, or 0. */
  readonly #heads: Int32Array;
  readonly #mask: number;
  /** By block: its key and who follows it in its chain. */
  readonly #records: Int32Array;

  /** Blocks are 1 … `blocks_max`; 0 is none. */
  constructor(blocks_max: number) {
    let size = 16;
    while (size < blocks_max) size *= 2;
    this.#heads = new Int32Array(size);
    this.#mask = size - 1;
    this.#records = new Int32Array(STRIDE * (blocks_max + 1));
  }

  /** 0: nobody has it. */
  find(low: number, high: number): number {
    const records = this.#records;
    let block = this.#heads[hashOf(low, high) & this.#mask] ?? 0;
    while (block !== 0 && (records[STRIDE * block + LOW] !== low || records[STRIDE * block + HIGH] !== high))
      block = records[STRIDE * block + NEXT] ?? 0;
    return block;
  }

  /** The block, which has no key, gets this one, unless another has it: then false. */
  add(low: number, high: number, block: number): boolean {
    if (this.find(low, high) !== 0) return false;
    const records = this.#records;
    const bucket = hashOf(low, high) & this.#mask;
    records[STRIDE * block + LOW] = low;
    records[STRIDE * block + HIGH] = high;
    records[STRIDE * block + NEXT] = this.#heads[bucket] ?? 0;
    this.#heads[bucket] = block;
    return true;
  }

  /** The block has a key. */
  remove(block: number): void {
    const records = this.#records;
    const bucket = hashOf(records[STRIDE * block + LOW] ?? 0, records[STRIDE * block + HIGH] ?? 0) & this.#mask;
    const next = records[STRIDE * block + NEXT] ?? 0;
    let before = this.#heads[bucket] ?? 0;
    if (before === block) {
      this.#heads[bucket] = next;
      return;
    }
    for (let after = records[STRIDE * before + NEXT] ?? 0; after !== block; after = records[STRIDE * before + NEXT] ?? 0) before = after;
    records[STRIDE * before + NEXT] = next;
  }

  clear(): void {
    this.#heads.fill(0);
  }
}

/** The finaliser of MurmurHash3 over the name of the larger block, then as many buckets on as the part's number. */
function hashOf(low: number, high: number): number {
  let h = low ^ Math.imul(high & NAME_MASK, 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) + (high >>> PART_SHIFT);
}

const NAME_MASK = 2 ** PART_SHIFT - 1;
