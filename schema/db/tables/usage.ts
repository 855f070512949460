/**
 * Facts about what was used, append-only: a trigger refuses UPDATE, DELETE and TRUNCATE. An administrator who must (erasure by
 * law, a drill that the reconciliation notices) says so first: `set session_replication_role = replica`, which only a
 * superuser may, and under which the trigger does not fire.
 *
 * (tenant, source, id) is unique for ever, as columns of their own: ("b-c","d") is not ("b","c-d"). What belongs to no tenant
 * (idle, loading, lost …) has the tenant NO_TENANT, which no tenant can have, because a NULL would not be unique.
 */
import { sql } from "drizzle-orm";
import { bigint, check, index, pgTable, primaryKey, text, timestamp } from "drizzle-orm/pg-core";
import { integer38 } from "./types.ts";

export const usage = pgTable(
  "usage",
  {
    tenant: text().notNull(),
    source: text().notNull(),
    id: text().notNull(),
    payload_hash: text().notNull(),
    kind: text().notNull(),
    /** Half-open [from, to), UTC nanoseconds. */
    from_ns: integer38().notNull(),
    to_ns: integer38().notNull(),
    quantity: integer38().notNull(),
    project: text(),
    function: text(),
    version: text(),
    run: text(),
    session: text(),
    program: text(),
    agent: text(),
    model: text(),
    call: text(),
    leg: text(),
    leg_state: text(),
    cost_centre: text(),
    cell: text(),
    node: text(),
    group: text(),
    instance: text(),
    prompt_tokens: bigint({ mode: "bigint" }),
    cached_tokens: bigint({ mode: "bigint" }),
    completion_tokens: bigint({ mode: "bigint" }),
    recorded_at: timestamp({ withTimezone: true }).notNull().defaultNow(),
  },
  (t) => [
    primaryKey({ columns: [t.tenant, t.source, t.id] }),
    index("usage_time").on(t.tenant, t.from_ns),
    index("usage_cell_time").on(t.cell, t.from_ns),
    index("usage_call_tokens")
      .on(t.tenant, t.call)
      .where(sql`${t.kind} = 'tokens'`),
    check("usage_order", sql`${t.to_ns} >= ${t.from_ns}`),
  ],
);
