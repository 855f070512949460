import * as fc from "fast-check";
import { expect, test } from "vitest";
import { ID_PATTERN } from "./ids.ts";
import { KEY_ENTROPY_BYTES, equalHex, hashSecret, mintKey, parseKey } from "./keys.ts";

const entropy = fc.uint8Array({ minLength: KEY_ENTROPY_BYTES, maxLength: KEY_ENTROPY_BYTES });

test("a minted key parses to its own id and secret, and is 70 characters that fit a header", () => {
  fc.assert(
    fc.property(entropy, (bytes) => {
      const minted = mintKey(bytes);
      expect(minted.text).toMatch(/^mr_[0-9a-f]{16}_[A-Za-z0-9_-]{43}_[A-Za-z0-9_-]{6}$/);
      expect(minted.text).toHaveLength(70);
      expect(minted.key).toMatch(ID_PATTERN);
      const parsed = parseKey(minted.text);
      expect(parsed).toMatchObject({ ok: true, key: minted.key });
      if (parsed.ok) expect(hashSecret(parsed.secret)).toBe(minted.secret_hash);
    }),
  );
});

test("the secret is 256 bits of base64url, as the platform encodes it", () => {
  fc.assert(
    fc.property(entropy, (bytes) => {
      const parsed = parseKey(mintKey(bytes).text);
      expect(parsed.ok && parsed.secret).toBe(Buffer.from(bytes.subarray(8)).toString("base64url"));
    }),
  );
});

test("one wrong character anywhere is refused before any database is asked", () => {
  fc.assert(
    fc.property(entropy, fc.nat(69), fc.constantFrom("a", "c", "X", "Z", "0", "9", "_", "-", ".", " "), (bytes, at, wrong) => {
      const { text } = mintKey(bytes);
      fc.pre(text[at] !== wrong);
      return !parseKey(text.slice(0, at) + wrong + text.slice(at + 1)).ok;
    }),
    { numRuns: 1_000 },
  );
});

test("what is no key is refused", () => {
  const { text } = mintKey(new Uint8Array(KEY_ENTROPY_BYTES));
  for (const other of ["", "mr_", "sk-abc", `Bearer ${text}`, `${text}\n`, ` ${text}`, text.toUpperCase(), text.slice(0, -1), `${text}x`]) {
    expect(parseKey(other)).toEqual({ ok: false, reason: "not_a_key" });
  }
  expect(parseKey(`${text.slice(0, -1)}${text.endsWith("A") ? "B" : "A"}`)).toEqual({ ok: false, reason: "bad_checksum" });
  expect(() => mintKey(new Uint8Array(KEY_ENTROPY_BYTES - 1))).toThrow(RangeError);
});

test("equalHex is equality", () => {
  fc.assert(fc.property(fc.string(), fc.string(), (a, b) => equalHex(a, b) === (a === b) && equalHex(a, a)));
});
