/**
 * Which sessions have sockets that a key opened, so that the door that revokes the key can have them closed although they sleep:
 * a session that does nothing wakes for this and for nothing else. Some objects a key, by the session's id.
 *
 *   session: enter ─▶ a row ─▶ leave (its last socket of the key is closed)
 *   door:    revoke ─▶ remembered for REVOKED_MS ─▶ alarm: each session is told, its row goes ─▶ (nothing)
 *
 * Who enters before the revocation is told of it, who enters after it is refused: between the two there is no gap.
 */
import { DurableObject } from "cloudflare:workers";
import type { Env } from "../env.ts";
import { objectLimits } from "../runtime/object-limits.ts";

/** Objects of one key: a fleet of sessions that all connect with one key is spread over them. */
const SHARDS = 8;
/** A door may have let in with what it remembered of the key (KEY_CACHE_MS); after this none has. */
const REVOKED_MS = 60_000;
const BATCH = 512;
const RETRY_MS_MIN = 1_000;
const RETRY_MS_MAX = 300_000;
/** A session that cannot be told so often is left to its own alarm: with the longest delay this is about a day. */
const ATTEMPTS_MAX = 300;

export class KeySockets extends DurableObject<Env> {
  readonly #sql: SqlStorage;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#sql = ctx.storage.sql;
  }

  /** Where nothing was entered nothing is kept, and nothing is left behind once a revocation is over. */
  get #exists(): boolean {
    return this.#sql.exec("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'revoked'").toArray().length > 0;
  }

  #createTables(): void {
    this.#sql.exec(`
      CREATE TABLE IF NOT EXISTS sessions (object TEXT PRIMARY KEY) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS revoked (
        one INTEGER PRIMARY KEY CHECK (one = 1), key TEXT NOT NULL, forget_at_ms INTEGER NOT NULL, attempts INTEGER NOT NULL
      );
    `);
  }

  enter(object: string): "entered" | "revoked" {
    if (this.#revoked()) return "revoked";
    this.#createTables();
    this.#sql.exec("INSERT INTO sessions VALUES (?) ON CONFLICT DO NOTHING", object);
    return "entered";
  }

  leave(object: string): void {
    if (this.#exists) this.#sql.exec("DELETE FROM sessions WHERE object = ?", object);
  }

  /** Durable when it returns; repeating it tells those again who could not be told. */
  async revoke(key: string): Promise<void> {
    const now_ms = Date.now();
    this.#createTables();
    this.#sql.exec("INSERT OR REPLACE INTO revoked VALUES (1, ?, ?, 0)", key, now_ms + REVOKED_MS);
    await this.ctx.storage.setAlarm(now_ms);
  }

  override async alarm(): Promise<void> {
    const revoked = this.#revoked();
    if (!revoked) return;
    const all_told = await this.#tell(revoked.key);
    const now_ms = Date.now();
    if (all_told || revoked.attempts >= ATTEMPTS_MAX) {
      if (now_ms < revoked.forget_at_ms) return this.ctx.storage.setAlarm(revoked.forget_at_ms);
      await this.ctx.storage.deleteAll();
      return;
    }
    this.#sql.exec("UPDATE revoked SET attempts = attempts + 1");
    await this.ctx.storage.setAlarm(now_ms + Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(revoked.attempts, 16)));
  }

  async #tell(key: string): Promise<boolean> {
    const { connections } = objectLimits(this.ctx);
    for (let all_told = true, after = ""; ;) {
      const rows = this.#sql
        .exec<{ object: string }>("SELECT object FROM sessions WHERE object > ? ORDER BY object LIMIT ?", after, BATCH)
        .toArray();
      const last = rows.at(-1);
      if (!last) return all_told;
      after = last.object;
      await Promise.all(
        rows.map(async ({ object }) => {
          try {
            const { SESSIONS } = this.env;
            await connections.run(async () => SESSIONS.get(SESSIONS.idFromString(object)).keyRevoked(key));
            this.leave(object);
          } catch {
            all_told = false;
          }
        }),
      );
    }
  }

  #revoked(): { key: string; forget_at_ms: number; attempts: number } | undefined {
    if (!this.#exists) return undefined;
    return this.#sql.exec<{ key: string; forget_at_ms: number; attempts: number }>("SELECT * FROM revoked").toArray()[0];
  }
}

/** The object of a key that knows of this session. */
export function keySocketsOf(env: Env, key: string, session_object: string): DurableObjectStub<KeySockets> {
  return env.KEY_SOCKETS.getByName(`${key}/${Number.parseInt(session_object.slice(-4), 16) % SHARDS}`);
}

/** Has all sockets closed that the key opened; it is revoked in Postgres already. */
export async function closeSocketsOf(env: Env, key: string): Promise<void> {
  await Promise.all(Array.from({ length: SHARDS }, (_, shard) => env.KEY_SOCKETS.getByName(`${key}/${shard}`).revoke(key)));
}
