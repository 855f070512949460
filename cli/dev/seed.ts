/** The development key: made once, kept in a 0600 file, and made anew when the database no longer knows it. */
import { randomBytes } from "node:crypto";
import postgres from "postgres";
import { KEY_ENTROPY_BYTES, equalHex, hashSecret, mintKey, parseKey } from "../../schema/core/keys.ts";
import { SCOPES } from "../../schema/core/wire/token.ts";
import { migrate } from "../../schema/db/migrate.ts";
import { createKey } from "../../schema/db/queries/keys/create-key.ts";
import { findKey } from "../../schema/db/queries/keys/find-key.ts";
import { DEFAULT_PROJECT, DEFAULT_TENANT, seedDefaults } from "../../schema/db/seed.ts";
import type { StateFolder } from "./state.ts";

export const KEY_FILE = "dev-key";

/** Migrates, seeds, and answers with the development key. */
export async function prepareDatabase(options: { readonly database_url: string; readonly state: StateFolder }): Promise<string> {
  await migrate(options.database_url);
  await seedDefaults(options.database_url);
  const sql = postgres(options.database_url, { max: 1, onnotice: () => {} });
  try {
    const kept = options.state.readSecret(KEY_FILE);
    if (kept !== null && (await isKnown(sql, kept))) return kept;
    const minted = mintKey(randomBytes(KEY_ENTROPY_BYTES));
    await createKey(sql, {
      key: minted.key,
      tenant: DEFAULT_TENANT,
      project: DEFAULT_PROJECT,
      name: "development",
      secret_hash: minted.secret_hash,
      scopes: [...SCOPES],
      expires_at: null,
    });
    options.state.writeSecret(KEY_FILE, minted.text);
    return minted.text;
  } finally {
    await sql.end();
  }
}

async function isKnown(sql: postgres.Sql, text: string): Promise<boolean> {
  const parsed = parseKey(text);
  if (!parsed.ok) return false;
  const record = await findKey(sql, parsed.key);
  return record !== null && !record.revoked && !record.expired && equalHex(record.secret_hash, hashSecret(parsed.secret));
}
