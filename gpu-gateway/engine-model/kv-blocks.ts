/**
 * Paged KV memory: blocks of 16 tokens, shared by reference, with a prefix cache over their keys.
 *
 * A block is free (reference count 0) or used. A free block may still hold cached content: it is found again by its key, and
 * evicted when its turn in the free list comes (least recently released first; the tail of a sequence before its head).
 * The free list is threaded through two arrays, so that a block leaves its middle in O(1).
 */
import type { BlockKeys } from "./block-keys.ts";
import { BlockTable } from "./block-table.ts";

export const BLOCK_TOKENS = 16;

export class KvBlocks<Writer = unknown> {
  readonly total: number;
  /** Counts what may let a sequence in that did not fit before. */
  changes = 0;
  #free: number;
  readonly #references: Int32Array;
  readonly #has_key: Uint8Array;
  readonly #table: BlockTable;
  /** Block 0 is both ends of the list, and never given out, as vLLM's null block. */
  readonly #next: Int32Array;
  readonly #before: Int32Array;
  /** Whose tokens a block holds, for whoever wants to know what was really read; undefined: never written. */
  readonly #writers: (Writer | undefined)[];

  constructor(kv_tokens: number) {
    this.total = Math.max(1, Math.floor(kv_tokens / BLOCK_TOKENS));
    this.#free = this.total;
    const size = this.total + 1;
    this.#references = new Int32Array(size);
    this.#has_key = new Uint8Array(size);
    this.#table = new BlockTable(this.total);
    this.#next = Int32Array.from({ length: size }, (_, id) => (id + 1) % size);
    this.#before = Int32Array.from({ length: size }, (_, id) => (id + this.total) % size);
    this.#writers = Array.from<Writer | undefined>({ length: size }).fill(undefined);
  }

  get used(): number {
    return this.total - this.#free;
  }
  get free(): number {
    return this.#free;
  }

  /** How many leading blocks are cached now, `limit` at most. */
  cachedPrefix(keys: BlockKeys, limit: number): number {
    const end = Math.min(limit, keys.count);
    let count = 0;
    while (count < end && this.#table.find(keys.low(count), keys.high(count)) !== 0) count++;
    return count;
  }

  /**
   * Takes blocks for a sequence: the first `shared` from the cache (cachedPrefix has just found them), the rest fresh, `count` in
   * all. Null when they do not fit: nothing is taken then.
   */
  take(keys: BlockKeys, shared: number, count: number, writer: Writer): number[] | null {
    const blocks: number[] = [];
    let waking = 0;
    for (let index = 0; index < shared; index++) {
      const id = this.#table.find(keys.low(index), keys.high(index));
      if (this.#references[id] === 0) waking++;
      blocks.push(id);
    }
    if (count - shared > this.#free - waking) return null;
    for (const id of blocks) this.#reference(id);
    this.extend(blocks, count, writer);
    return blocks;
  }

  /** Fresh blocks until there are `count`; false when they do not fit: nothing is taken then. */
  extend(blocks: number[], count: number, writer: Writer): boolean {
    const missing = count - blocks.length;
    if (missing > this.#free) return false;
    for (let n = 0; n < missing; n++) {
      const id = this.#fresh();
      this.#writers[id] = writer;
      blocks.push(id);
    }
    return true;
  }

  /** Publishes the computed full blocks `from` … `to` under their keys. A key that another block holds stays with that block. */
  publish(blocks: readonly number[], keys: BlockKeys, from: number, to: number): void {
    for (let index = from; index < to; index++) {
      const id = blocks[index] ?? 0;
      if (this.#has_key[id] === 0 && this.#table.add(keys.low(index), keys.high(index), id)) this.#has_key[id] = 1;
    }
    this.changes++;
  }

  release(blocks: readonly number[]): void {
    for (let index = blocks.length - 1; index >= 0; index--) {
      const id = blocks[index] ?? 0;
      const left = (this.#references[id] ?? 0) - 1;
      if (left < 0) throw new Error(`KV block ${id} released twice`);
      this.#references[id] = left;
      if (left === 0) this.#enlist(id);
    }
    this.changes++;
  }

  /** Forgets all cached content (sleep, /reset_prefix_cache). Blocks in use stay in use. */
  forget(): void {
    this.#has_key.fill(0);
    this.#table.clear();
    this.changes++;
  }

  /** Whose tokens lie in the block, free or not. */
  writerOf(id: number): Writer | undefined {
    return this.#writers[id];
  }
  isFree(id: number): boolean {
    return this.#references[id] === 0;
  }

  #reference(id: number): void {
    const before = this.#references[id] ?? 0;
    this.#references[id] = before + 1;
    if (before === 0) this.#delist(id);
  }

  #fresh(): number {
    const id = this.#next[0] ?? 0;
    if (id === 0) throw new Error("no free KV block: take() and extend() check first");
    if (this.#has_key[id] === 1) {
      this.#table.remove(id);
      this.#has_key[id] = 0;
    }
    this.#reference(id);
    return id;
  }

  #enlist(id: number): void {
    const last = this.#before[0] ?? 0;
    this.#next[last] = id;
    this.#before[id] = last;
    this.#next[id] = 0;
    this.#before[0] = id;
    this.#free++;
  }

  #delist(id: number): void {
    const before = this.#before[id] ?? 0;
    const next = this.#next[id] ?? 0;
    this.#next[before] = next;
    this.#before[next] = before;
    this.#free--;
  }
}
