/**
 * Whether the key that opened a socket is still good. The door looked when the socket was opened; a session lives for days, so that
 * its object looks again before it begins a turn in that key's name, at most every KEY_CACHE_MS.
 *
 * While the database is away what the door saw stands: the gateway watches over revocation on its own and refuses the calls.
 */
import { findKey } from "../../schema/db/queries/keys/find-key.ts";
import { withDatabase } from "../database.ts";
import { KEY_CACHE_MS } from "../door.ts";

export const CLOSE_REVOKED_KEY = 4003;
/** Keys remembered by one session: beyond it all are asked for again. */
const KEYS_MAX = 64;

export class SessionKeys {
  readonly #database: Hyperdrive;
  /** Promises, so that messages that wait for the same answer keep their order. */
  readonly #answers = new Map<string, { readonly until_ms: number; readonly good: Promise<boolean> }>();

  constructor(database: Hyperdrive) {
    this.#database = database;
  }

  isGood(key: string, now_ms: number): Promise<boolean> {
    const known = this.#answers.get(key);
    if (known && now_ms < known.until_ms) return known.good;
    if (this.#answers.size >= KEYS_MAX) this.#answers.clear();
    const good = this.#ask(key);
    this.#answers.set(key, { until_ms: now_ms + KEY_CACHE_MS, good });
    return good;
  }

  async #ask(key: string): Promise<boolean> {
    try {
      const record = await withDatabase(this.#database, (sql) => findKey(sql, key));
      return record !== null && !record.revoked && !record.expired;
    } catch {
      return true;
    }
  }
}
