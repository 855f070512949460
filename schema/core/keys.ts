/**
 * API keys: `mr_<key id: 16 hex>_<secret: 43 base64url>_<checksum: 6 base64url>`, 70 characters, safe in a header, a URL and a
 * shell. The checksum refuses a mistyped or cut key before any database is asked; it is no protection. The secret is 256
 * random bits, so a plain SHA-256 of it may be stored: there is nothing to guess. Entropy is the caller's.
 */
import { sha256 } from "@noble/hashes/sha2.js";
import { utf8ToBytes } from "@noble/hashes/utils.js";
import { sha256Hex } from "./hash.ts";
import { type KeyId, asId } from "./ids.ts";

export const KEY_ENTROPY_BYTES = 40;
const KEY_ID_BYTES = 8;
const CHECKSUM_CHARS = 6;
const SHAPE = /^(mr_([0-9a-f]{16})_([A-Za-z0-9_-]{43}))_([A-Za-z0-9_-]{6})$/;
const BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

export type MintedKey = {
  readonly key: KeyId;
  /** The whole key: shown once, never stored. */
  readonly text: string;
  readonly secret_hash: string;
};
export type ParsedKey =
  | { readonly ok: true; readonly key: KeyId; readonly secret: string }
  | { readonly ok: false; readonly reason: "not_a_key" | "bad_checksum" };

export function mintKey(entropy: Uint8Array): MintedKey {
  if (entropy.length < KEY_ENTROPY_BYTES) throw new RangeError(`mintKey needs ${KEY_ENTROPY_BYTES} bytes of entropy`);
  let id = "";
  for (const byte of entropy.subarray(0, KEY_ID_BYTES)) id += byte.toString(16).padStart(2, "0");
  const secret = base64url(entropy.subarray(KEY_ID_BYTES, KEY_ENTROPY_BYTES));
  const body = `mr_${id}_${secret}`;
  return { key: keyIdOf(id), text: `${body}_${checksum(body)}`, secret_hash: hashSecret(secret) };
}

/** Takes a key apart. The secret is not yet verified: compare `hashSecret(secret)` with what is stored for `key`, by `equalHex`. */
export function parseKey(text: string): ParsedKey {
  const match = SHAPE.exec(text);
  const [, body, id, secret, check] = match ?? [];
  if (body === undefined || id === undefined || secret === undefined) return { ok: false, reason: "not_a_key" };
  if (check !== checksum(body)) return { ok: false, reason: "bad_checksum" };
  return { ok: true, key: keyIdOf(id), secret };
}

export const hashSecret = (secret: string): string => sha256Hex(secret);

/** Compares two hashes in a time that does not depend on where they differ. */
export function equalHex(a: string, b: string): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= a.charCodeAt(i) ^ b.charCodeAt(i);
  return difference === 0;
}

const keyIdOf = (id: string): KeyId => asId<"key">(`key_${id}`);
const checksum = (body: string): string => base64url(sha256(utf8ToBytes(body))).slice(0, CHECKSUM_CHARS);

/** Neither `btoa` nor `Buffer` is in every runtime's types. */
function base64url(bytes: Uint8Array): string {
  let text = "";
  let bits = 0;
  let held = 0;
  for (const byte of bytes) {
    held = (held << 8) | byte;
    bits += 8;
    while (bits >= 6) {
      bits -= 6;
      text += BASE64URL[(held >> bits) & 63];
    }
    held &= (1 << bits) - 1;
  }
  if (bits > 0) text += BASE64URL[(held << (6 - bits)) & 63];
  return text;
}
