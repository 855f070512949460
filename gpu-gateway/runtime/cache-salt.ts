/** A tenant's prefix-cache salt: HMAC(key of this cell, tenant), so that prefixes are shared inside a tenant only (I3). */
import { createHmac } from "node:crypto";
import { SALTS_KEPT_MAX } from "./limits.ts";

export function tenantSalts(cell_secret: string): (tenant: string) => string {
  const key = createHmac("sha256", cell_secret).update("millrace prefix cache").digest();
  const kept = new Map<string, string>();
  return (tenant) => {
    const known = kept.get(tenant);
    if (known !== undefined) return known;
    const salt = createHmac("sha256", key).update(tenant).digest("base64url");
    const [oldest] = kept.keys();
    if (kept.size >= SALTS_KEPT_MAX && oldest !== undefined) kept.delete(oldest);
    kept.set(tenant, salt);
    return salt;
  };
}
