/**
 * Names of prompt blocks, each naming everything before it: chain(parent, content), starting from the tenant's salt (I3). 53 bits, by
 * the final mix of MurmurHash3 (Appleby, public domain) over the words of both: a collision costs a wrong cache hit in a figure.
 */
import { cyrb53 } from "../../engine-model/block-hash.ts";

const HALF = 4_294_967_296;

export const saltOf = (tenant: string): number => cyrb53(tenant, 0x9e37);

export function chain(parent: number, content: number): number {
  let a = 0x2545f491;
  let b = 0x7f4a7c15;
  for (const word of [parent | 0, Math.floor(parent / HALF) | 0, content | 0, Math.floor(content / HALF) | 0]) {
    a = mix32(a ^ word);
    b = mix32(Math.imul(b ^ word, 0x9e3779b1) ^ a);
  }
  return HALF * (b & 0x1fffff) + (a >>> 0);
}

/** The names of consecutive blocks with these contents, after those of `before`. */
export function chained(salt: number, before: readonly number[], contents: ArrayLike<number>): number[] {
  const names = before.slice();
  let parent = names.at(-1) ?? salt;
  for (let i = 0; i < contents.length; i++) {
    parent = chain(parent, contents[i] ?? 0);
    names.push(parent);
  }
  return names;
}

function mix32(word: number): number {
  let h = word;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
