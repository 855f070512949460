/**
 * Usage that an object has seen, on its way to Postgres: a row is written in the transaction of what it tells of, and deleted once
 * Postgres has it. Ids are derived, so that a row shipped twice counts once (I6). The object's alarm calls `ship` until it is empty.
 */
import type { UsageEvent } from "../../schema/core/wire/usage.ts";
import { insertUsage } from "../../schema/db/queries/usage/insert-usage.ts";
import { withDatabase } from "../database.ts";

/** Rows kept while Postgres is away: beyond it the oldest go, at the platform's loss. */
export const OUTBOX_ROWS_MAX = 10_000;
const BATCH_ROWS = 500;
const RETRY_MS_MIN = 1_000;
const RETRY_MS_MAX = 300_000;

export class UsageOutbox {
  readonly #sql: SqlStorage;
  #failures = 0;
  #next_at_ms = 0;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  static createTable(sql: SqlStorage): void {
    sql.exec("CREATE TABLE IF NOT EXISTS usage_outbox (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, event TEXT NOT NULL)");
  }

  /** What is there, and comes, is not shipped before; forgotten with the object's memory, which costs nothing but the delay. */
  notBefore(at_ms: number): void {
    this.#next_at_ms = Math.max(this.#next_at_ms, at_ms);
  }

  /** Inside a transaction. */
  add(events: readonly UsageEvent[]): void {
    for (const event of events) {
      this.#sql.exec("INSERT INTO usage_outbox (id, event) VALUES (?, ?) ON CONFLICT (id) DO NOTHING", event.id, JSON.stringify(event));
    }
    this.#sql.exec("DELETE FROM usage_outbox WHERE number <= (SELECT max(number) FROM usage_outbox) - ?", OUTBOX_ROWS_MAX);
  }

  /** When `ship` should next be called, UTC milliseconds; undefined when there is nothing to ship. */
  due(): number | undefined {
    const [row] = this.#sql.exec("SELECT 1 FROM usage_outbox LIMIT 1").toArray();
    return row === undefined ? undefined : this.#next_at_ms;
  }

  /** One batch. Never throws: what could not be shipped stays, and `due` says when to try again. */
  async ship(database: Hyperdrive, now_ms: number): Promise<"shipped" | "kept"> {
    const rows = this.#sql
      .exec<{ number: number; event: string }>("SELECT number, event FROM usage_outbox ORDER BY number LIMIT ?", BATCH_ROWS)
      .toArray();
    const last = rows.at(-1);
    if (last === undefined) return "shipped";
    const events = rows.map((row) => JSON.parse(row.event) as UsageEvent);
    try {
      await withDatabase(database, (sql) => insertUsage(sql, events));
    } catch {
      this.#failures += 1;
      this.#next_at_ms = now_ms + Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(this.#failures - 1, 12));
      return "kept";
    }
    this.#failures = 0;
    this.#next_at_ms = 0;
    this.#sql.exec("DELETE FROM usage_outbox WHERE number <= ?", last.number);
    return "shipped";
  }
}
