/** SHA-256, synchronous and the same in Node, workerd and policy (`@noble/hashes`: audited, no dependencies). */
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";

export function sha256Hex(data: string | Uint8Array): string {
  return bytesToHex(sha256(typeof data === "string" ? utf8ToBytes(data) : data));
}

/** Hashes a list of strings so that no two different lists collide: each part is preceded by its length. */
export function hashParts(...parts: string[]): string {
  return sha256Hex(parts.map((part) => `${part.length}:${part}`).join(""));
}
