import { keyCreated, keyList } from "../../schema/core/wire/http.ts";
import type { Scope } from "../../schema/core/wire/token.ts";
import { read, request, type Connection } from "../connection.ts";

export async function createKey(connection: Connection, name: string, scopes: readonly Scope[], expires_at?: string) {
  const answer = await request(connection, "POST", "/v1/keys", { body: { name, scopes, ...(expires_at ? { expires_at } : {}) } });
  return read(answer, keyCreated);
}

export async function listKeys(connection: Connection) {
  return read(await request(connection, "GET", "/v1/keys"), keyList);
}

export async function revokeKey(connection: Connection, id: string): Promise<void> {
  await request(connection, "DELETE", `/v1/keys/${encodeURIComponent(id)}`);
}
