/**
 * Paged KV memory: blocks of 16 tokens, shared by reference, with a prefix cache over their content hashes.
 *
 * A block is free (reference count 0) or used. A free block may still hold cached content: it is found again by its hash, and
 * evicted when its turn in the free list comes (least recently released first; the tail of a sequence before its head).
 */
export const BLOCK_TOKENS = 16;

export class KvBlocks {
  readonly total: number;
  #references: Uint32Array;
  #hash_of: (string | undefined)[];
  /** Insertion order is eviction order. Bounded by `total` (I8). */
  #free = new Set<number>();
  #cached = new Map<string, number>();

  /** Block 0 is never given out, as in vLLM (its null block). */
  constructor(kv_tokens: number) {
    this.total = Math.max(1, Math.floor(kv_tokens / BLOCK_TOKENS));
    this.#references = new Uint32Array(this.total + 1);
    this.#hash_of = Array.from({ length: this.total + 1 });
    for (let id = 1; id <= this.total; id++) this.#free.add(id);
  }

  get used(): number {
    return this.total - this.#free.size;
  }

  /** How many leading hashes are cached now. */
  cachedPrefix(hashes: readonly string[]): number {
    let count = 0;
    for (const hash of hashes) {
      if (!this.#cached.has(hash)) break;
      count++;
    }
    return count;
  }

  /**
   * Takes blocks for a sequence: the first `shared` of `hashes` from the cache, the rest fresh, `count` in all.
   * Null when they do not fit: nothing is taken then.
   */
  take(hashes: readonly string[], shared: number, count: number): number[] | null {
    const found: number[] = [];
    for (const hash of hashes.slice(0, shared)) {
      const id = this.#cached.get(hash);
      if (id === undefined) break;
      found.push(id);
    }
    const waking = found.filter((id) => this.#references[id] === 0).length;
    if (count - found.length > this.#free.size - waking) return null;
    for (const id of found) this.#reference(id);
    const blocks = found;
    while (blocks.length < count) blocks.push(this.#fresh());
    return blocks;
  }

  /** One more block for a growing sequence; null when memory is full. */
  grow(): number | null {
    return this.#free.size === 0 ? null : this.#fresh();
  }

  /** Publishes computed full blocks under their hashes. A hash that another block holds stays with that block. */
  publish(blocks: readonly number[], hashes: readonly string[]): void {
    for (const [index, hash] of hashes.entries()) {
      const id = blocks[index];
      if (id === undefined) return;
      if (this.#hash_of[id] !== undefined || this.#cached.has(hash)) continue;
      this.#hash_of[id] = hash;
      this.#cached.set(hash, id);
    }
  }

  release(blocks: readonly number[]): void {
    for (const id of blocks.toReversed()) {
      const left = (this.#references[id] ?? 0) - 1;
      if (left < 0) throw new Error(`KV block ${id} released twice`);
      this.#references[id] = left;
      if (left === 0) this.#free.add(id);
    }
  }

  /** Forgets all cached content (sleep, /reset_prefix_cache). Blocks in use stay in use. */
  forget(): void {
    for (const id of this.#cached.values()) this.#hash_of[id] = undefined;
    this.#cached.clear();
  }

  #reference(id: number): void {
    this.#references[id] = (this.#references[id] ?? 0) + 1;
    this.#free.delete(id);
  }

  #fresh(): number {
    const next = this.#free.values().next();
    if (next.done === true) throw new Error("no free KV block: take() and grow() check first");
    const id = next.value;
    const hash = this.#hash_of[id];
    if (hash !== undefined) {
      this.#cached.delete(hash);
      this.#hash_of[id] = undefined;
    }
    this.#reference(id);
    return id;
  }
}
