/** Which code a name stands for, within one project (I10): what the doors, runs and sessions ask. */
import { deployRequest } from "../schema/core/wire/http.ts";
import { findVersion } from "../schema/db/queries/functions/find-version.ts";
import { resolveVersion, type VersionRecord } from "../schema/db/queries/functions/resolve-version.ts";
import { withDatabase } from "./database.ts";
import type { Env } from "./env.ts";
import { bad, good } from "./runtime/result.ts";
import type { FunctionCode, FunctionConfig } from "./runtime/execution.ts";

export type ResolvedFunction = {
  readonly function: VersionRecord["function"];
  readonly name: string;
  readonly version: VersionRecord["version"];
  readonly code_hash: string;
  readonly config_hash: string;
  readonly config: FunctionConfig;
};

const config_schema = deployRequest.shape.config;

/** `version`: an alias or a version's id. */
export async function resolveFunction(
  env: Env,
  of: { readonly tenant: string; readonly project: string; readonly name: string; readonly version?: string | undefined },
): Promise<ResolvedFunction | null> {
  if (of.version?.includes("\0")) return null; // no text of Postgres holds it, so no version is named so
  const found = await withDatabase(env.DB, (sql) => resolveVersion(sql, { ...of, version: of.version ?? "live" }));
  if (!found) return null;
  const { function: id, name, version, code_hash, config_hash } = found;
  return { function: id, name, version, code_hash, config_hash, config: config_schema.parse(found.config) };
}

/** The code of a version that a run or session was bound to; read only when no isolate of it is loaded. */
export function codeOf(
  env: Env,
  of: { readonly tenant: string; readonly version: string; readonly code_hash: string; readonly config_hash: string },
): FunctionCode {
  return {
    hash: of.code_hash,
    config_hash: of.config_hash,
    async load() {
      try {
        const found = await withDatabase(env.DB, (sql) => findVersion(sql, of));
        return found ? good(found.code) : bad("internal", "The version's code is gone.");
      } catch {
        return bad("database_unavailable", "The function's code could not be read.");
      }
    },
  };
}
