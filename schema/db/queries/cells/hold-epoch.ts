/**
 * The epoch of a cell (null: nobody ever acquired it), which no acquisition changes before this transaction ends: what is committed
 * under it is there for whoever acquires next. A renewal waits, too: ask last.
 */
import type { Db } from "../../sql.ts";

export async function holdEpoch(sql: Db, cell: string): Promise<number | null> {
  const [row] = await sql<{ epoch: number }[]>`select epoch::float8 as epoch from cells where cell = ${cell}::text for share`;
  return row?.epoch ?? null;
}
