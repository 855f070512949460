/**
 * Names a block of a prompt by everything before it: hash(parent, content), starting from the cache salt. So two tenants with
 * different salts never share a block (I3), and a block is found only behind the same prefix.
 *
 * One 53-bit mix (cyrb53) rather than SHA-256: this runs on every 16 tokens of every prompt, and a collision in a model of an
 * engine costs a wrong cache hit in a figure, never a wrong answer.
 */
import { BLOCK_TOKENS } from "./kv-blocks.ts";

/** Names of the full blocks of a tokenized prompt, where token i is `token(i)`. */
export function blockHashes(tokens: number, content: (from: number, to: number) => string, salt: string): number[] {
  const hashes: number[] = [];
  let parent = cyrb53(salt, 0x9e37);
  for (let from = 0; from + BLOCK_TOKENS <= tokens; from += BLOCK_TOKENS) {
    parent = cyrb53(`${parent}|${content(from, from + BLOCK_TOKENS)}`, 0);
    hashes.push(parent);
  }
  return hashes;
}

/** cyrb53 (bryc, public domain). Also what the simulated text draws its choices from. */
export function cyrb53(text: string, seed: number): number {
  let a = 0xdeadbeef ^ seed;
  let b = 0x41c6ce57 ^ seed;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    a = Math.imul(a ^ code, 2_654_435_761);
    b = Math.imul(b ^ code, 1_597_334_677);
  }
  a = Math.imul(a ^ (a >>> 16), 2_246_822_507) ^ Math.imul(b ^ (b >>> 13), 3_266_489_909);
  b = Math.imul(b ^ (b >>> 16), 2_246_822_507) ^ Math.imul(a ^ (a >>> 13), 3_266_489_909);
  return 4_294_967_296 * (2_097_151 & b) + (a >>> 0);
}
