/** A revoked key's links close and its calls end, within REVOCATION_POLL_MS and one query (the edge's promise is 5 s). */
import type { Runtime } from "../runtime/runtime.ts";
import type { Authenticator, KeyStore } from "./auth.ts";
import { REVOCATION_POLL_MS } from "./limits.ts";
import type { LinkServer } from "./link/server.ts";

export function watchRevocations(
  keys: KeyStore,
  auth: Authenticator,
  runtime: Runtime,
  links: LinkServer,
  log: (line: string, fields?: Readonly<Record<string, unknown>>) => void,
): { stop(): void } {
  let polling = false;
  const poll = async () => {
    if (polling) return;
    polling = true;
    try {
      const fresh = new Set(auth.revoke(await keys.revokedLately()));
      if (fresh.size === 0) return;
      links.endOf(fresh);
      const cancelled = runtime.cancelWhere((tags) => fresh.has(tags.key), "key_revoked");
      log("keys revoked", { keys: [...fresh], calls_cancelled: cancelled });
    } catch (error) {
      // The next poll looks back over the missed ones.
      log("revocations not read", { error: String(error) });
    } finally {
      polling = false;
    }
  };
  const timer = setInterval(() => void poll(), REVOCATION_POLL_MS);
  void poll();
  return { stop: () => clearInterval(timer) };
}
