/** Up to when each cell's usage is complete. */
import type { Db } from "../../sql.ts";

export async function listWatermarks(sql: Db): Promise<{ cell: string; through_ns: bigint }[]> {
  const rows = await sql<{ cell: string; through_ns: string }[]>`
    select cell, through_ns::text as through_ns from watermarks order by cell`;
  return rows.map((row) => ({ cell: row.cell, through_ns: BigInt(row.through_ns) }));
}
