/**
 * Whether the key that opened a socket, or a stream, is still good. The door looked when it was opened; a session lives for days, so
 * that its object looks again before it does or tells anything in that key's name, at most every KEY_CACHE_MS.
 *
 * While the database is away, or slow, what was seen last stands: the gateway watches over revocation on its own.
 */
import { findKey } from "../../schema/db/queries/keys/find-key.ts";
import { withDatabase } from "../database.ts";
import { KEY_CACHE_MS } from "../door.ts";
import type { Semaphore } from "../runtime/semaphore.ts";

export const CLOSE_REVOKED_KEY = 4003;
/** Keys remembered by one object: beyond it all are asked for again. */
const KEYS_MAX = 64;
/** Readers wait so long for an answer: then what was seen last stands for another KEY_CACHE_MS. */
const ASK_MS_MAX = 1_500;

type Answer = { good: boolean | undefined; until_ms: number; asking: Promise<boolean> | undefined };

export class SessionKeys {
  readonly #database: Hyperdrive;
  readonly #connections: Semaphore;
  readonly #answers = new Map<string, Answer>();

  constructor(database: Hyperdrive, connections: Semaphore) {
    this.#database = database;
    this.#connections = connections;
  }

  /** Undefined: it has to be asked for. */
  known(key: string, now_ms: number): boolean | undefined {
    const answer = this.#answers.get(key);
    return answer && now_ms < answer.until_ms ? answer.good : undefined;
  }

  /** The door that revoked it said so. */
  revoked(key: string): void {
    if (!this.#answers.has(key) && this.#answers.size >= KEYS_MAX) this.#answers.clear();
    this.#answers.set(key, { good: false, until_ms: Infinity, asking: undefined });
  }

  /** Those who ask meanwhile wait for the same answer. */
  isGood(key: string, now_ms: number): Promise<boolean> {
    const known = this.known(key, now_ms);
    if (known !== undefined) return Promise.resolve(known);
    if (!this.#answers.has(key) && this.#answers.size >= KEYS_MAX) this.#answers.clear();
    const answer = this.#answers.get(key) ?? { good: undefined, until_ms: 0, asking: undefined };
    this.#answers.set(key, answer);
    answer.asking ??= this.#settle(key, answer);
    return answer.asking;
  }

  async #settle(key: string, answer: Answer): Promise<boolean> {
    const seen = await this.#ask(key);
    answer.good = seen ?? answer.good ?? true;
    // A key that is over stays so.
    answer.until_ms = answer.good ? Date.now() + KEY_CACHE_MS : Infinity;
    answer.asking = undefined;
    return answer.good;
  }

  async #ask(key: string): Promise<boolean | undefined> {
    const late = Promise.withResolvers<undefined>();
    const timer = setTimeout(() => late.resolve(undefined), ASK_MS_MAX);
    try {
      const found = this.#connections.run(() => withDatabase(this.#database, (sql) => findKey(sql, key)));
      const record = await Promise.race([found, late.promise]);
      return record === undefined ? undefined : record !== null && !record.revoked && !record.expired;
    } catch {
      return undefined;
    } finally {
      clearTimeout(timer);
    }
  }
}
