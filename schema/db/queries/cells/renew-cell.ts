/**
 * Extends a lease that is still ours. A lease that ran out is lost even if nobody has taken it: the caller acquires again, under a
 * new epoch, so that what was decided meanwhile cannot be commanded (I13).
 */
import { type Db, instantOf } from "../../sql.ts";

export type RenewOutcome = { readonly type: "renewed"; readonly expires_at: string } | { readonly type: "lost" };

export async function renewCell(
  sql: Db,
  lease: { readonly cell: string; readonly owner: string; readonly epoch: number; readonly lease_ms: number },
): Promise<RenewOutcome> {
  const [row] = await sql<{ expires_at: Date }[]>`
    update cells set expires_at = clock_timestamp() + ${lease.lease_ms}::int * interval '1 millisecond'
    where cell = ${lease.cell}::text and owner = ${lease.owner}::text and epoch = ${lease.epoch}::bigint
      and expires_at > clock_timestamp()
    returning expires_at`;
  return row === undefined ? { type: "lost" } : { type: "renewed", expires_at: instantOf(row.expires_at) };
}
