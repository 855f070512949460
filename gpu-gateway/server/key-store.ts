/** Keys as Postgres knows them. A hash is compared in constant time; expiry is by the database's clock, so all doors agree. */
import type postgres from "postgres";
import { equalHex, hashSecret, parseKey } from "../../schema/core/keys.ts";
import { findKey } from "../../schema/db/queries/keys/find-key.ts";
import { recentlyRevoked } from "../../schema/db/queries/keys/recently-revoked.ts";
import type { KeyStore } from "./auth.ts";
import { REVOCATION_POLL_MS } from "./limits.ts";

/** Several polls back: a slow commit or a missed poll loses none. Tokens live on for their own time: see REVOKED_REMEMBERED_MAX. */
const LOOK_BACK_MS = REVOCATION_POLL_MS * 30;

export function postgresKeyStore(sql: postgres.Sql): KeyStore {
  return {
    async find(text) {
      const parsed = parseKey(text);
      if (!parsed.ok) return { type: "malformed" };
      const record = await findKey(sql, parsed.key);
      if (record === null || !equalHex(hashSecret(parsed.secret), record.secret_hash)) return { type: "unknown" };
      if (record.revoked || record.expired) return { type: "revoked" };
      const { key, tenant, project, scopes } = record;
      return { type: "valid", claims: { key, tenant, project, scopes: [...scopes] } };
    },
    revokedLately: () => recentlyRevoked(sql, LOOK_BACK_MS),
  };
}
