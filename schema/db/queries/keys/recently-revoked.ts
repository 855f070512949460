/**
 * Keys that became invalid within the last `within_ms`, by revocation or expiry, of all tenants. A gateway asks on a period and
 * closes what they opened; it asks for several periods back, so that a slow commit or a missed poll loses none.
 */
import type { Db } from "../../sql.ts";

export async function recentlyRevoked(sql: Db, within_ms: number): Promise<string[]> {
  const rows = await sql<{ key: string }[]>`
    select key from api_keys
    where revoked_at > clock_timestamp() - ${within_ms}::int * interval '1 millisecond'
      or (expires_at <= clock_timestamp() and expires_at > clock_timestamp() - ${within_ms}::int * interval '1 millisecond')
    order by key`;
  return rows.map((row) => row.key);
}
