/**
 * What the prefix cache knows a prompt's blocks by: one exact integer below 2^53 for each block, naming it and everything before it.
 *
 * They come as names of 16-token blocks (block-hash.ts), or as a prefix in larger blocks, as routers and traces count them: then each
 * larger block stands for several of 16, told apart by their number within it. Nothing is laid out in memory for that: a key is two
 * 32-bit halves computed when asked for, the upper one holding the upper 21 bits of the name and, above them, the number.
 */
import { cyrb53 } from "./block-hash.ts";
import { BLOCK_TOKENS } from "./kv-blocks.ts";

/** Consecutive blocks of `block_tokens` tokens each, from the first token on. */
export type PromptPrefix = { readonly block_tokens: number; readonly blocks: readonly number[] };

const HALF = 4_294_967_296;
/** Where the number of a part begins in the upper half. */
export const PART_SHIFT = 21;
/** Of 16-token blocks in a larger one: what fits above the name. */
const PARTS_MAX = 2 ** (31 - PART_SHIFT);

export class BlockKeys {
  /** Full 16-token blocks of the prompt that have a name. */
  readonly count: number;
  readonly #names: readonly number[];
  readonly #parts: number;

  private constructor(names: readonly number[], parts: number, count: number) {
    this.#names = names;
    this.#parts = parts;
    this.count = count;
  }

  static of(prompt_tokens: number, hashes: readonly (string | number)[] | undefined, prefix: PromptPrefix | undefined): BlockKeys {
    const full = Math.floor(prompt_tokens / BLOCK_TOKENS);
    if (prefix === undefined) {
      if (hashes === undefined || hashes.length === 0) return new BlockKeys([], 1, 0);
      return new BlockKeys(typeof hashes[0] === "string" ? hashes.map(named) : (hashes as number[]), 1, Math.min(full, hashes.length));
    }
    const parts = prefix.block_tokens / BLOCK_TOKENS;
    if (!Number.isInteger(parts) || parts < 1 || parts > PARTS_MAX)
      throw new RangeError(
        `a prefix comes in blocks of 16 to ${PARTS_MAX * BLOCK_TOKENS} tokens, a multiple of 16, not ${prefix.block_tokens}`,
      );
    return new BlockKeys(prefix.blocks, parts, Math.min(full, prefix.blocks.length * parts));
  }

  low(index: number): number {
    return (this.#names[this.#parts === 1 ? index : Math.floor(index / this.#parts)] ?? 0) | 0;
  }

  high(index: number): number {
    const block = this.#parts === 1 ? index : Math.floor(index / this.#parts);
    const upper = Math.floor((this.#names[block] ?? 0) / HALF);
    return upper + ((index - block * this.#parts) << PART_SHIFT);
  }
}

const named = (hash: string | number): number => (typeof hash === "string" ? cyrb53(hash, 0) : hash);
