/** API keys of a project. The key itself is in the answer to its creation and nowhere else. */
import { Hono } from "hono";
import { failure } from "../../schema/core/errors.ts";
import { ID_PATTERN } from "../../schema/core/ids.ts";
import { KEY_ENTROPY_BYTES, mintKey } from "../../schema/core/keys.ts";
import { keyCreate, type keyCreated, type keyList } from "../../schema/core/wire/http.ts";
import { createKey } from "../../schema/db/queries/keys/create-key.ts";
import { listKeys } from "../../schema/db/queries/keys/list-keys.ts";
import { revokeKey } from "../../schema/db/queries/keys/revoke-key.ts";
import type { z } from "zod";
import { withDatabase } from "../database.ts";
import { closeSocketsOf } from "../objects/key-sockets.ts";
import { callerWith, jsonBody, Refusal, refuse, type App } from "../http.ts";

export const keys = new Hono<App>();

keys.post("/v1/keys", async (c) => {
  const { tenant, project, scopes: own } = await callerWith(c, "admin");
  const { name, scopes, expires_at } = await jsonBody(c, keyCreate);
  if (name.includes("\0")) refuse("invalid_request", "name: contains a NUL character", "name");
  const beyond = scopes.find((scope) => !own.includes(scope));
  if (beyond) refuse("insufficient_scope", `A key cannot give what it has not: \`${beyond}\`.`);
  const expires = expires_at === undefined ? null : expiryOf(expires_at);
  const { key, text, secret_hash } = mintKey(crypto.getRandomValues(new Uint8Array(KEY_ENTROPY_BYTES)));
  const unique = [...new Set(scopes)];
  const { created_at } = await withDatabase(c.env.DB, (sql) =>
    createKey(sql, { key, tenant, project, name, secret_hash, scopes: unique, expires_at: expires }),
  );
  const body: z.infer<typeof keyCreated> = { key, name, scopes: unique, secret: text, created_at, expires_at: expires };
  return c.json(body, 201, { "cache-control": "no-store" });
});

keys.get("/v1/keys", async (c) => {
  const { tenant, project } = await callerWith(c, "admin");
  return c.json({ keys: await withDatabase(c.env.DB, (sql) => listKeys(sql, { tenant, project })) } satisfies z.infer<typeof keyList>);
});

keys.delete("/v1/keys/:key", async (c) => {
  const { tenant, project } = await callerWith(c, "admin");
  const key = c.req.param("key");
  const revoked = ID_PATTERN.test(key) && (await withDatabase(c.env.DB, (sql) => revokeKey(sql, { tenant, project, key })));
  if (!revoked) throw new Refusal(failure("not_found", "There is no such key."));
  // Should this fail the key is revoked all the same: the client is told to repeat, which changes nothing and closes the sockets.
  await closeSocketsOf(c.env, key);
  return c.body(null, 204);
});

function expiryOf(text: string): string {
  const at_ms = /^\d{4}-\d\d-\d\dT/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(at_ms)) refuse("invalid_request", "expires_at: an instant as RFC 3339 has it", "expires_at");
  if (at_ms <= Date.now()) refuse("invalid_request", "expires_at: lies in the past", "expires_at");
  return new Date(at_ms).toISOString();
}
