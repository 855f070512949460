/** A project's keys, oldest first, without anything that could be used. */
import type { Scope } from "../../../core/wire/token.ts";
import { type Db, instantOf, instantOrNull } from "../../sql.ts";

export type KeySummary = {
  readonly key: string;
  readonly name: string;
  readonly scopes: Scope[];
  readonly created_at: string;
  readonly expires_at: string | null;
  readonly revoked_at: string | null;
};

type Row = { key: string; name: string; scopes: Scope[]; created_at: Date; expires_at: Date | null; revoked_at: Date | null };

export async function listKeys(sql: Db, of: { readonly tenant: string; readonly project: string }): Promise<KeySummary[]> {
  const rows = await sql<Row[]>`
    select key, name, to_jsonb(scopes) as scopes, created_at, expires_at, revoked_at from api_keys
    where tenant = ${of.tenant}::text and project = ${of.project}::text
    order by created_at, key`;
  return rows.map((row) => ({
    ...row,
    created_at: instantOf(row.created_at),
    expires_at: instantOrNull(row.expires_at),
    revoked_at: instantOrNull(row.revoked_at),
  }));
}
