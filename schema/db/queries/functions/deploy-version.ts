/**
 * Deploys: the function by name, its version if this code with this configuration is new, the alias moved to it. One statement; to
 * deploy the same again changes nothing but the alias. Ids are derived from what they name, so two deployers at once agree.
 */
import { hashParts, sha256Hex } from "../../../core/hash.ts";
import { type FunctionId, type VersionId, deriveId } from "../../../core/ids.ts";
import { type Db, instantOf, only } from "../../sql.ts";

export type Deployment = {
  readonly tenant: string;
  readonly project: string;
  readonly name: string;
  readonly code: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly alias: string;
};
export type Deployed = {
  readonly function: FunctionId;
  readonly name: string;
  readonly version: VersionId;
  readonly code_hash: string;
  readonly config_hash: string;
  readonly alias: string;
  readonly created_at: string;
  /** False: this code with this configuration was deployed before. */
  readonly created: boolean;
};

export async function deployVersion(sql: Db, d: Deployment): Promise<Deployed> {
  const config = canonicalJson(d.config);
  const code_hash = sha256Hex(d.code);
  const config_hash = hashParts("function-config", config);
  const function_id = deriveId("function", d.tenant, d.project, d.name);
  const version = deriveId("version", function_id, code_hash, config_hash);
  const row = only(
    await sql<{ created: boolean; created_at: Date }[]>`
      with f as (
        insert into functions (function, tenant, project, name)
        values (${function_id}::text, ${d.tenant}::text, ${d.project}::text, ${d.name}::text)
        on conflict (function) do nothing
      ), v as (
        insert into function_versions (version, function, code, code_hash, config, config_hash)
        values (
          ${version}::text, ${function_id}::text, ${d.code}::text, ${code_hash}::text, ${config}::text::jsonb, ${config_hash}::text
        )
        on conflict (version) do nothing
        returning created_at
      ), a as (
        insert into function_aliases (function, alias, version)
        values (${function_id}::text, ${d.alias}::text, ${version}::text)
        on conflict (function, alias) do update set version = excluded.version, moved_at = excluded.moved_at
      )
      select exists (select from v) as created,
        coalesce((select created_at from v), (select created_at from function_versions where version = ${version}::text), now()) as created_at`,
  );
  const { name, alias } = d;
  const created_at = instantOf(row.created_at);
  return { function: function_id, name, version, code_hash, config_hash, alias, created_at, created: row.created };
}

/** Keys in order, so that the same configuration has the same hash. */
function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    inner !== null && typeof inner === "object" && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))
      : inner,
  );
}
