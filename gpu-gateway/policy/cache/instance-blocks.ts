/** The blocks that one instance is taken to hold: found by tenant and hash, forgotten least recently used first. */
import type { TenantId } from "../../../schema/core/ids.ts";
import type { Prefix } from "../vocabulary.ts";

type Block = {
  readonly of: Map<number, Block>;
  readonly tenant: TenantId;
  readonly hash: number;
  readonly tokens: number;
  /** Used just before it, and just after it. */
  older: Block | null;
  newer: Block | null;
};

export class InstanceBlocks {
  readonly #tokens_max: number;
  readonly #blocks_max: number;
  readonly #by_tenant = new Map<TenantId, Map<number, Block>>();
  #oldest: Block | null = null;
  #newest: Block | null = null;
  #tokens = 0;
  #count = 0;

  constructor(tokens_max: number, blocks_max: number) {
    this.#tokens_max = tokens_max;
    this.#blocks_max = blocks_max;
  }

  get tokens(): number {
    return this.#tokens;
  }

  get tenants(): number {
    return this.#by_tenant.size;
  }

  /** How many of these, from the first on, are known. */
  leading(tenant: TenantId, hashes: readonly number[]): number {
    const known = this.#by_tenant.get(tenant);
    if (known === undefined) return 0;
    let low = 0;
    let high = hashes.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const hash = hashes[middle];
      if (hash !== undefined && known.has(hash)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The first `count` blocks have been used now. A prompt longer than all that fits keeps its beginning. */
  renew(tenant: TenantId, { blocks, block_tokens }: Prefix, count: number): void {
    let known = this.#by_tenant.get(tenant);
    if (known === undefined) this.#by_tenant.set(tenant, (known = new Map()));
    const fitting = Math.min(count, this.#blocks_max, Math.floor(this.#tokens_max / block_tokens));
    for (let place = fitting - 1; place >= 0; place--) {
      const hash = blocks[place];
      if (hash === undefined) continue;
      let block = known.get(hash);
      if (block === undefined) {
        block = { of: known, tenant, hash, tokens: block_tokens, older: null, newer: null };
        known.set(hash, block);
        this.#tokens += block_tokens;
        this.#count += 1;
      } else this.#unlink(block);
      this.#linkNewest(block);
    }
    while (this.#oldest !== null && (this.#tokens > this.#tokens_max || this.#count > this.#blocks_max)) this.#forget(this.#oldest);
    if (known.size === 0) this.#by_tenant.delete(tenant);
  }

  #forget(block: Block): void {
    this.#unlink(block);
    block.of.delete(block.hash);
    if (block.of.size === 0) this.#by_tenant.delete(block.tenant);
    this.#tokens -= block.tokens;
    this.#count -= 1;
  }

  #unlink(block: Block): void {
    if (block.older === null) this.#oldest = block.newer;
    else block.older.newer = block.newer;
    if (block.newer === null) this.#newest = block.older;
    else block.newer.older = block.older;
    block.older = null;
    block.newer = null;
  }

  #linkNewest(block: Block): void {
    block.older = this.#newest;
    if (this.#newest === null) this.#oldest = block;
    else this.#newest.newer = block;
    this.#newest = block;
  }
}
