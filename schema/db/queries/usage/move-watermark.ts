/** Moves a cell's watermark forward, never back, and answers where it stands. */
import { type Db, only } from "../../sql.ts";

export async function moveWatermark(sql: Db, cell: string, through_ns: bigint): Promise<{ through_ns: bigint }> {
  const row = only(
    await sql<{ through_ns: string }[]>`
      insert into watermarks as w (cell, through_ns) values (${cell}::text, ${through_ns.toString()}::numeric)
      on conflict (cell) do update set
        through_ns = greatest(w.through_ns, excluded.through_ns),
        moved_at = case when excluded.through_ns > w.through_ns then excluded.moved_at else w.moved_at end
      returning through_ns::text as through_ns`,
  );
  return { through_ns: BigInt(row.through_ns) };
}
