/**
 * Usage that an object has seen, on its way to Postgres: a row is written in the transaction of what it tells of, and deleted once
 * Postgres, or the object that it was handed to, has it. Ids are derived, so that a row shipped twice counts once (I6). The object's
 * alarm goes on until it is empty.
 */
import type { UsageEvent } from "../../schema/core/wire/usage.ts";
import { insertUsage } from "../../schema/db/queries/usage/insert-usage.ts";
import { withDatabase } from "../database.ts";

/** Rows kept while Postgres is away: beyond it the oldest go, at the platform's loss. */
export const OUTBOX_ROWS_MAX = 10_000;
/** From this many on what other objects handed in is shipped at once. */
export const OUTBOX_BATCH_ROWS = 500;
/** What another object hands in waits so long for more of it. */
const GATHER_MS = 2_000;
const RETRY_MS_MIN = 1_000;
const RETRY_MS_MAX = 300_000;

/** `kept`: the way was barred. `refused`: the other object has no place for it. */
type Shipped = "shipped" | "kept" | "refused";

export class UsageOutbox {
  readonly #sql: SqlStorage;
  #failures = 0;
  #next_at_ms = 0;
  #shipping: Promise<Shipped> | undefined;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  static createTable(sql: SqlStorage): void {
    sql.exec("CREATE TABLE IF NOT EXISTS usage_outbox (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, event TEXT NOT NULL)");
  }

  /** Inside a transaction. */
  add(events: readonly UsageEvent[]): void {
    for (const event of events) {
      this.#sql.exec("INSERT INTO usage_outbox (id, event) VALUES (?, ?) ON CONFLICT (id) DO NOTHING", event.id, JSON.stringify(event));
    }
    this.#sql.exec("DELETE FROM usage_outbox WHERE number <= (SELECT max(number) FROM usage_outbox) - ?", OUTBOX_ROWS_MAX);
  }

  /** Inside a transaction: another object's. False: there are so many that its own would be pushed out. */
  gather(events: readonly UsageEvent[], now_ms: number): boolean {
    const { rows } = this;
    if (rows + events.length > OUTBOX_ROWS_MAX / 2) return false;
    if (rows === 0) this.#next_at_ms = Math.max(this.#next_at_ms, now_ms + GATHER_MS);
    this.add(events);
    return true;
  }

  /** What was gathered waits no longer: nothing more is expected. */
  dueNow(): void {
    if (this.#failures === 0) this.#next_at_ms = 0;
  }

  get rows(): number {
    return this.#sql.exec<{ c: number }>("SELECT count(*) AS c FROM usage_outbox").one().c;
  }

  /** When `ship` should next be called, UTC milliseconds; undefined when there is nothing to ship. */
  due(): number | undefined {
    const [row] = this.#sql.exec("SELECT 1 FROM usage_outbox LIMIT 1").toArray();
    return row === undefined ? undefined : this.#next_at_ms;
  }

  /** All there is, over one connection. Never throws: what could not be shipped stays, and `due` says when to try again. */
  ship(database: Hyperdrive, now_ms: number): Promise<Shipped> {
    return this.#attempt(
      () =>
        withDatabase(database, (sql) =>
          this.#drain(async (events) => {
            await insertUsage(sql, events);
            return true;
          }),
        ),
      now_ms,
    );
  }

  /** All there is, to another object, which answers whether it has it now. Never throws, as `ship`. */
  hand(take: (events: readonly UsageEvent[]) => Promise<boolean>, now_ms: number): Promise<Shipped> {
    return this.#attempt(() => this.#drain(take), now_ms);
  }

  /** One at a time: who comes meanwhile waits for the same, which goes on until nothing is left. */
  #attempt(work: () => Promise<"shipped" | "refused">, now_ms: number): Promise<Shipped> {
    if (this.due() === undefined) return Promise.resolve("shipped");
    this.#shipping ??= this.#settle(work, now_ms).finally(() => (this.#shipping = undefined));
    return this.#shipping;
  }

  async #settle(work: () => Promise<"shipped" | "refused">, now_ms: number): Promise<Shipped> {
    try {
      const shipped = await work();
      this.#failures = 0;
      this.#next_at_ms = 0;
      return shipped;
    } catch {
      this.#failures += 1;
      this.#next_at_ms = now_ms + Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(this.#failures - 1, 12));
      return "kept";
    }
  }

  async #drain(take: (events: readonly UsageEvent[]) => Promise<boolean>): Promise<"shipped" | "refused"> {
    for (let batch = this.#batch(); batch; batch = this.#batch()) {
      if (!(await take(batch.events))) return "refused";
      this.#sql.exec("DELETE FROM usage_outbox WHERE number <= ?", batch.last);
    }
    return "shipped";
  }

  #batch(): { readonly events: readonly UsageEvent[]; readonly last: number } | undefined {
    const rows = this.#sql
      .exec<{ number: number; event: string }>("SELECT number, event FROM usage_outbox ORDER BY number LIMIT ?", OUTBOX_BATCH_ROWS)
      .toArray();
    const last = rows.at(-1)?.number;
    return last === undefined ? undefined : { events: rows.map((row) => JSON.parse(row.event) as UsageEvent), last };
  }
}
