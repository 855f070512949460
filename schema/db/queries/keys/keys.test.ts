import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type FreshDatabase, freshDatabase } from "../../../../test/support/postgres.ts";
import { KEY_ENTROPY_BYTES, equalHex, hashSecret, mintKey, parseKey } from "../../../core/keys.ts";
import { DEFAULT_PROJECT, DEFAULT_TENANT } from "../../seed.ts";
import { createKey } from "./create-key.ts";
import { findKey } from "./find-key.ts";
import { listKeys } from "./list-keys.ts";
import { recentlyRevoked } from "./recently-revoked.ts";
import { revokeKey } from "./revoke-key.ts";

const project = { tenant: DEFAULT_TENANT, project: DEFAULT_PROJECT };
const HOUR_MS = 3_600_000;

// As Node connects, and as a Worker does through Hyperdrive.
describe.each([{}, { fetch_types: false, prepare: false }])("keys, with a client of %j", (options) => {
  let db: FreshDatabase;
  beforeAll(async () => {
    db = await freshDatabase(options);
  });
  afterAll(() => db.drop());

  async function make(expires_at: string | null) {
    const minted = mintKey(randomBytes(KEY_ENTROPY_BYTES));
    const { key, secret_hash } = minted;
    await createKey(db.sql, { ...project, key, name: 'k "1" \\ {}', secret_hash, scopes: ["infer", "usage"], expires_at });
    return minted;
  }

  test("a key is found by its id, and its secret verified against the stored hash", async () => {
    const minted = await make(null);
    const parsed = parseKey(minted.text);
    if (!parsed.ok) throw new Error(parsed.reason);
    const found = await findKey(db.sql, parsed.key);
    expect(found).toMatchObject({ ...project, scopes: ["infer", "usage"], revoked: false, expired: false, expires_in_ms: null });
    expect(equalHex(found!.secret_hash, hashSecret(parsed.secret))).toBe(true);
    expect(equalHex(found!.secret_hash, hashSecret("other"))).toBe(false);
    expect(await findKey(db.sql, "key_none")).toBeNull();
  });

  test("revoked once and for all, within its own project only", async () => {
    const { key } = await make(null);
    expect(await revokeKey(db.sql, { tenant: "ten_other", project: DEFAULT_PROJECT, key })).toBe(false);
    expect(await recentlyRevoked(db.sql, HOUR_MS)).not.toContain(key);
    expect(await revokeKey(db.sql, { ...project, key })).toBe(true);
    expect(await findKey(db.sql, key)).toMatchObject({ revoked: true });
    const [first] = (await listKeys(db.sql, project)).filter((k) => k.key === key);
    expect(await revokeKey(db.sql, { ...project, key })).toBe(true);
    expect((await listKeys(db.sql, project)).filter((k) => k.key === key)).toEqual([first]);
    expect(first).toMatchObject({ name: 'k "1" \\ {}', scopes: ["infer", "usage"], expires_at: null });
    expect(await recentlyRevoked(db.sql, HOUR_MS)).toContain(key);
  });

  test("an expired key is expired by the database's clock", async () => {
    const past = await make(new Date(Date.now() - 1_000).toISOString());
    const future = await make(new Date(Date.now() + HOUR_MS).toISOString());
    expect(await findKey(db.sql, past.key)).toMatchObject({ expired: true });
    expect(await findKey(db.sql, future.key)).toMatchObject({ expired: false, expires_in_ms: expect.any(Number) });
    const invalid = await recentlyRevoked(db.sql, HOUR_MS);
    expect(invalid).toContain(past.key);
    expect(invalid).not.toContain(future.key);
  });
});
