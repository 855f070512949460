/** The version, with its code, that a function's name and an alias or version id stand for. */
import type { FunctionId, VersionId } from "../../../core/ids.ts";
import { type Db, instantOf } from "../../sql.ts";

export type VersionRecord = {
  readonly function: FunctionId;
  readonly name: string;
  readonly version: VersionId;
  readonly code: string;
  readonly code_hash: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly config_hash: string;
  readonly created_at: string;
};

export async function resolveVersion(
  sql: Db,
  /** `version`: an alias (`live`) or a version's id. */
  of: { readonly tenant: string; readonly project: string; readonly name: string; readonly version: string },
): Promise<VersionRecord | null> {
  const [row] = await sql<(Omit<VersionRecord, "created_at"> & { created_at: Date })[]>`
    select f.function, f.name, v.version, v.code, v.code_hash, v.config, v.config_hash, v.created_at
    from functions f
    join function_versions v on v.function = f.function
    where f.tenant = ${of.tenant}::text and f.project = ${of.project}::text and f.name = ${of.name}::text
      and v.version = coalesce(
        (select a.version from function_aliases a where a.function = f.function and a.alias = ${of.version}::text),
        ${of.version}::text
      )`;
  return row === undefined ? null : { ...row, created_at: instantOf(row.created_at) };
}
