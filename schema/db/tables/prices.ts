/**
 * Prices, versioned and effective-dated, never changed (trigger): a use is rated by the row in force when it happened.
 * Two kinds: `gpu_hour` (what a GPU costs us, by cell and GPU type) and `tokens` (what a tenant is charged, by model); `*` fits
 * all, the more exact row wins. A row takes force at a full UTC minute, which no usage row crosses: so a change splits no row.
 */
import { sql } from "drizzle-orm";
import { check, integer, pgTable, text, timestamp, unique } from "drizzle-orm/pg-core";
import { integer38 } from "./types.ts";

export const prices = pgTable(
  "prices",
  {
    price: text().primaryKey(),
    kind: text().notNull(),
    cell: text().notNull().default("*"),
    gpu_type: text().notNull().default("*"),
    model: text().notNull().default("*"),
    currency: text().notNull(),
    version: integer().notNull(),
    effective_from_ns: integer38().notNull(),
    /** Nano-units. Per GPU and hour. */
    per_gpu_hour: integer38(),
    /** Nano-units. Per million tokens; `prompt` is for those not found in a cache. */
    prompt_per_million: integer38(),
    cached_per_million: integer38(),
    completion_per_million: integer38(),
    note: text().notNull().default(""),
    created_at: timestamp({ withTimezone: true }).notNull().defaultNow(),
  },
  (t) => [
    unique("prices_version").on(t.kind, t.cell, t.gpu_type, t.model, t.currency, t.effective_from_ns, t.version),
    check("prices_minute", sql`${t.effective_from_ns} % 60000000000 = 0`),
    check(
      "prices_kind",
      sql`case ${t.kind}
        when 'gpu_hour' then coalesce(${t.per_gpu_hour} >= 0, false)
        when 'tokens' then coalesce(${t.prompt_per_million} >= 0 and ${t.cached_per_million} >= 0 and ${t.completion_per_million} >= 0, false)
        else false end`,
    ),
  ],
);
