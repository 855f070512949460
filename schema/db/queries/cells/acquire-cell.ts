/**
 * Takes a cell's lease, under a new epoch (I13): when nobody had it, when it ran out, or when the same owner comes back (a restarted
 * gateway; what its former self still does is of an older epoch). One statement: of many at once, one wins; the others wait
 * for its row and then see that it is held.
 *
 * The lease is counted on the database's clock. The caller counts its own from before it asked, by a monotonic clock, and stops
 * commanding at `lease_ms` after that, less skew.
 */
import { type Db, instantOf } from "../../sql.ts";

export type AcquireOutcome =
  | { readonly type: "acquired"; readonly epoch: number; readonly expires_at: string }
  | { readonly type: "held"; readonly epoch: number; readonly owner: string; readonly expires_at: string };

export async function acquireCell(
  sql: Db,
  lease: { readonly cell: string; readonly owner: string; readonly lease_ms: number },
): Promise<AcquireOutcome> {
  const rows = await sql<{ taken: boolean; epoch: number; owner: string; expires_at: Date }[]>`
    with taken as (
      insert into cells as c (cell, epoch, owner, acquired_at, expires_at)
      values (
        ${lease.cell}::text, 1, ${lease.owner}::text, clock_timestamp(),
        clock_timestamp() + ${lease.lease_ms}::int * interval '1 millisecond'
      )
      on conflict (cell) do update
        set epoch = c.epoch + 1, owner = excluded.owner, acquired_at = excluded.acquired_at, expires_at = excluded.expires_at
        where c.owner = excluded.owner or c.expires_at <= clock_timestamp()
      returning epoch, owner, expires_at
    )
    select true as taken, epoch::float8 as epoch, owner, expires_at from taken
    union all
    select false, epoch::float8, owner, expires_at from cells where cell = ${lease.cell}::text and not exists (select from taken)`;
  const [row] = rows;
  // Between its first row and our snapshot: somebody inserted the cell and we lost, but cannot see by whom.
  if (row === undefined) return { type: "held", epoch: 1, owner: "", expires_at: new Date(0).toISOString() };
  const { epoch, owner } = row;
  const expires_at = instantOf(row.expires_at);
  return row.taken ? { type: "acquired", epoch, expires_at } : { type: "held", epoch, owner, expires_at };
}
