/** Revokes a key of this project. False: there is none. Repeating it changes nothing. */
import type { Db } from "../../sql.ts";

export async function revokeKey(
  sql: Db,
  of: { readonly tenant: string; readonly project: string; readonly key: string },
): Promise<boolean> {
  const rows = await sql`
    update api_keys set revoked_at = coalesce(revoked_at, clock_timestamp())
    where key = ${of.key}::text and tenant = ${of.tenant}::text and project = ${of.project}::text
    returning 1`;
  return rows.length === 1;
}
