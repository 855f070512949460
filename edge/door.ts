/**
 * Who asks: an API key against Postgres, at the door that the request came through. A verified key is remembered for
 * KEY_CACHE_MS, so that a revoked one stops within that time; a refused one is never remembered.
 */
import { failure, type ErrorCode, type Failure } from "../schema/core/errors.ts";
import { asId, type ProjectId, type TenantId } from "../schema/core/ids.ts";
import { equalHex, hashSecret, parseKey } from "../schema/core/keys.ts";
import type { Scope, TokenClaims } from "../schema/core/wire/token.ts";
import { findKey, type KeyRecord } from "../schema/db/queries/keys/find-key.ts";
import { withDatabase } from "./database.ts";
import type { Env } from "./env.ts";

/** The bound of revocation at this door. */
export const KEY_CACHE_MS = 2_000;
/** Keys remembered in one isolate: beyond it the oldest go. */
const KEY_CACHE_MAX = 10_000;

export type Caller = {
  readonly tenant: TenantId;
  readonly project: ProjectId;
  readonly key: string;
  readonly scopes: readonly Scope[];
  /** UTC milliseconds; left out: never. */
  readonly expires_at_ms?: number;
};
export type Admission = { readonly ok: true; readonly caller: Caller } | { readonly ok: false; readonly error: Failure };

type Remembered = { readonly record: KeyRecord; readonly until_ms: number };
/** By key id; the secret is compared every time. */
const remembered = new Map<string, Remembered>();

const refuse = (code: ErrorCode, detail?: string): Admission => ({ ok: false, error: failure(code, detail) });

export async function admit(env: Env, authorization: string | undefined, now_ms: number): Promise<Admission> {
  if (authorization === undefined || authorization === "") return refuse("missing_key");
  const token = /^Bearer +(\S+)$/i.exec(authorization)?.[1];
  if (token === undefined) return refuse("invalid_key", "The Authorization header is `Bearer mr_…`, once.");
  const parsed = parseKey(token);
  if (!parsed.ok) {
    return refuse("invalid_key", parsed.reason === "bad_checksum" ? "The key is mistyped or cut off." : "That is no key of ours.");
  }
  let record: KeyRecord | null;
  try {
    record = await find(env, parsed.key, now_ms);
  } catch {
    return refuse("database_unavailable");
  }
  // Compared even if there is no such key, so that the time says nothing.
  const matches = equalHex(hashSecret(parsed.secret), record?.secret_hash ?? hashSecret(""));
  if (!record || !matches) return refuse("invalid_key");
  if (record.revoked || record.expired) return refuse("revoked_key");
  const { tenant, project, key, scopes } = record;
  return {
    ok: true,
    caller: { tenant: asId<"tenant">(tenant), project: asId<"project">(project), key, scopes, ...expiryOf(record, now_ms) },
  };
}

async function find(env: Env, key: string, now_ms: number): Promise<KeyRecord | null> {
  const known = remembered.get(key);
  if (known && now_ms < known.until_ms) return known.record;
  remembered.delete(key);
  const record = await withDatabase(env.DB, (sql) => findKey(sql, key));
  if (!record || record.revoked || record.expired) return record;
  if (remembered.size >= KEY_CACHE_MAX) remembered.delete(remembered.keys().next().value ?? "");
  remembered.set(key, { record, until_ms: now_ms + Math.min(KEY_CACHE_MS, record.expires_in_ms ?? KEY_CACHE_MS) });
  return record;
}

export const expiryOf = (record: KeyRecord, now_ms: number): { expires_at_ms?: number } =>
  record.expires_in_ms === null ? {} : { expires_at_ms: Math.ceil(now_ms + record.expires_in_ms) };

export const mayNot = (caller: Caller, scope: Scope): Failure | undefined =>
  caller.scopes.includes(scope) ? undefined : failure("insufficient_scope", `This needs a key with the scope \`${scope}\`.`);

/** What the token to the gateway says of a caller. */
export const claimsOf = (caller: Caller): TokenClaims => ({
  tenant: caller.tenant,
  project: caller.project,
  key: caller.key,
  scopes: [...caller.scopes],
});
