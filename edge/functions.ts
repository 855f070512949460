/** Which code a name stands for, within one project (I10): what the doors, runs and sessions ask. */
import { deployRequest } from "../schema/core/wire/http.ts";
import { findVersion } from "../schema/db/queries/functions/find-version.ts";
import { resolveVersion, type VersionRecord } from "../schema/db/queries/functions/resolve-version.ts";
import { withDatabase } from "./database.ts";
import type { Env } from "./env.ts";
import { code_cache } from "./runtime/code-cache.ts";
import type { FunctionCode, FunctionConfig } from "./runtime/execution.ts";
import { bad, good, type Result } from "./runtime/result.ts";

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

type Version = { readonly tenant: string; readonly version: string };

/** A version's code, asked of the database unless this isolate has read it before. */
export async function readCode(env: Env, of: Version): Promise<Result<string>> {
  const known = code_cache.get(of);
  if (known !== undefined) return good(known);
  try {
    const found = await withDatabase(env.DB, (sql) => findVersion(sql, of));
    if (!found) return bad("internal", "The version's code is gone.");
    code_cache.put(of, found.code);
    return good(found.code);
  } catch {
    return bad("database_unavailable", "The function's code could not be read.");
  }
}

/**
 * The code of a version that a run or session was bound to; read only when no isolate of it is loaded. A called function asks its
 * program's root, `ask`, which reads it once for all of them; where there is no root any more it reads for itself.
 */
export function codeOf(
  env: Env,
  of: Version & { readonly code_hash: string; readonly config_hash: string },
  ask?: (version: string) => Promise<Result<string>>,
): FunctionCode {
  return {
    hash: of.code_hash,
    config_hash: of.config_hash,
    async load() {
      if (!ask || code_cache.get(of) !== undefined) return readCode(env, of);
      let told: Result<string>;
      try {
        told = await ask(of.version);
      } catch {
        return readCode(env, of);
      }
      if (told.ok) code_cache.put(of, told.value);
      return told;
    },
  };
}
