/** What guests remember: one object a session, or a function, with rows of JSON. Reached only through memory-scope.ts. */
import { DurableObject } from "cloudflare:workers";
import { MEMORY_VALUE_BYTES_MAX } from "../../schema/core/wire/limits.ts";
import type { Env } from "../env.ts";
import type { MemoryObject, MemoryWish } from "../runtime/memory-scope.ts";
import { bad, good, type Result } from "../runtime/result.ts";

/** Keys of one memory: a further `set` is refused with `invalid_request`. */
export const MEMORY_KEYS_MAX = 10_000;

export class Memory extends DurableObject<Env> implements MemoryObject {
  readonly #sql: SqlStorage;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#sql = ctx.storage.sql;
    this.#sql.exec("CREATE TABLE IF NOT EXISTS memory (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID");
  }

  async perform(wish: MemoryWish): Promise<Result<unknown>> {
    switch (wish.op) {
      case "memory.get": {
        const row = this.#sql.exec<{ value: string }>("SELECT value FROM memory WHERE key = ?", wish.key).toArray()[0];
        return good(row ? { value: JSON.parse(row.value) as unknown } : {});
      }
      case "memory.set":
        return this.#set(wish.key, JSON.stringify(wish.value ?? null));
      case "memory.delete":
        return good(this.#sql.exec("DELETE FROM memory WHERE key = ? RETURNING 1", wish.key).toArray().length > 0);
      case "memory.list": {
        // Compared by code units of a prefix: no LIKE, whose wildcards a key may contain.
        const rows = this.#sql.exec<{ key: string }>(
          "SELECT key FROM memory WHERE substr(key, 1, length(?1)) = ?1 ORDER BY key LIMIT ?2",
          wish.prefix,
          wish.limit,
        );
        return good(rows.toArray().map((row) => row.key));
      }
    }
  }

  #set(key: string, value: string): Result<null> {
    const bytes = new TextEncoder().encode(value).length;
    if (bytes > MEMORY_VALUE_BYTES_MAX)
      return bad("invalid_request", `A value has ${bytes} bytes; the limit is ${MEMORY_VALUE_BYTES_MAX}.`, "value");
    const known = this.#sql.exec("SELECT 1 FROM memory WHERE key = ?", key).toArray().length > 0;
    if (!known && this.#sql.exec<{ c: number }>("SELECT count(*) AS c FROM memory").one().c >= MEMORY_KEYS_MAX) {
      return bad("invalid_request", `A memory holds at most ${MEMORY_KEYS_MAX} keys.`, "key");
    }
    this.#sql.exec("INSERT INTO memory VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, value);
    return good(null);
  }
}
