/** Stores a key that schema/core/keys.ts minted. The same key id twice is a bug of the caller's entropy: the database refuses it. */
import type { Scope } from "../../../core/wire/token.ts";
import { type Db, arrayOf, instantOf, only } from "../../sql.ts";

export type NewKey = {
  readonly key: string;
  readonly tenant: string;
  readonly project: string;
  readonly name: string;
  readonly secret_hash: string;
  readonly scopes: readonly Scope[];
  /** RFC 3339. */
  readonly expires_at: string | null;
};

export async function createKey(sql: Db, key: NewKey): Promise<{ created_at: string }> {
  const row = only(
    await sql<{ created_at: Date }[]>`
      insert into api_keys (key, tenant, project, name, secret_hash, scopes, expires_at)
      values (
        ${key.key}::text, ${key.tenant}::text, ${key.project}::text, ${key.name}::text, ${key.secret_hash}::text,
        ${arrayOf(key.scopes)}::text[], ${key.expires_at}::timestamptz
      )
      returning created_at`,
  );
  return { created_at: instantOf(row.created_at) };
}
