/** All cells with their lease, for operators. */
import { type Db, instantOf } from "../../sql.ts";

export type CellRow = {
  readonly cell: string;
  readonly epoch: number;
  readonly owner: string;
  readonly expires_at: string;
  readonly held: boolean;
};

export async function listCells(sql: Db): Promise<CellRow[]> {
  const rows = await sql<{ cell: string; epoch: number; owner: string; expires_at: Date; held: boolean }[]>`
    select cell, epoch::float8 as epoch, owner, expires_at, expires_at > clock_timestamp() as held from cells order by cell`;
  return rows.map((row) => ({ ...row, expires_at: instantOf(row.expires_at) }));
}
