/** Ends our lease now, so that a successor need not wait. False: it was not ours any more. */
import type { Db } from "../../sql.ts";

export async function releaseCell(
  sql: Db,
  lease: { readonly cell: string; readonly owner: string; readonly epoch: number },
): Promise<boolean> {
  const rows = await sql`
    update cells set expires_at = least(expires_at, clock_timestamp())
    where cell = ${lease.cell}::text and owner = ${lease.owner}::text and epoch = ${lease.epoch}::bigint
    returning 1`;
  return rows.length === 1;
}
