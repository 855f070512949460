/**
 * What is known of a key, by its id. The caller compares `secret_hash` (equalHex of schema/core/keys.ts) and refuses a key that is
 * `revoked` or `expired`: both by the database's clock, so that all doors agree.
 */
import type { Scope } from "../../../core/wire/token.ts";
import type { Db } from "../../sql.ts";

export type KeyRecord = {
  readonly key: string;
  readonly tenant: string;
  readonly project: string;
  readonly secret_hash: string;
  readonly scopes: readonly Scope[];
  readonly revoked: boolean;
  readonly expired: boolean;
  /** Milliseconds until it expires; null: never. */
  readonly expires_in_ms: number | null;
};

export async function findKey(sql: Db, key: string): Promise<KeyRecord | null> {
  const [row] = await sql<KeyRecord[]>`
    select key, tenant, project, secret_hash, to_jsonb(scopes) as scopes,
      revoked_at is not null as revoked,
      coalesce(expires_at <= clock_timestamp(), false) as expired,
      (extract(epoch from expires_at - clock_timestamp()) * 1000)::float8 as expires_in_ms
    from api_keys where key = ${key}::text`;
  return row ?? null;
}
