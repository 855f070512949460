/** A version by its id alone: for a run or session that was bound to it earlier. Not for what a client names. */
import { type Db, instantOf } from "../../sql.ts";
import type { VersionRecord } from "./resolve-version.ts";

export async function findVersion(sql: Db, of: { readonly tenant: string; readonly version: string }): Promise<VersionRecord | null> {
  const [row] = await sql<(Omit<VersionRecord, "created_at"> & { created_at: Date })[]>`
    select f.function, f.name, v.version, v.code, v.code_hash, v.config, v.config_hash, v.created_at
    from function_versions v
    join functions f on f.function = v.function
    where v.version = ${of.version}::text and f.tenant = ${of.tenant}::text`;
  return row === undefined ? null : { ...row, created_at: instantOf(row.created_at) };
}
