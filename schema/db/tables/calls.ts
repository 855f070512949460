/**
 * Every call that ended, with the tokens that it is charged for (cost is in `usage`). A call that a lost gateway left and a
 * later one ran again has a row for each acceptance: both cost tokens, it is one call.
 */
import { bigint, index, pgTable, primaryKey, text } from "drizzle-orm/pg-core";
import { integer38 } from "./types.ts";

export const calls = pgTable(
  "calls",
  {
    tenant: text().notNull(),
    call: text().notNull(),
    accepted_at_ns: integer38().notNull(),
    ended_at_ns: integer38().notNull(),
    outcome: text().notNull(),
    code: text(),
    cell: text().notNull(),
    project: text(),
    function: text(),
    version: text(),
    run: text(),
    session: text(),
    program: text(),
    agent: text(),
    model: text(),
    key: text(),
    prompt_tokens: bigint({ mode: "bigint" }).notNull(),
    cached_tokens: bigint({ mode: "bigint" }).notNull(),
    completion_tokens: bigint({ mode: "bigint" }).notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.tenant, t.call, t.accepted_at_ns] }),
    index("calls_cell_time").on(t.cell, t.ended_at_ns),
    index("calls_time").on(t.tenant, t.ended_at_ns),
    index("calls_run").on(t.run),
    index("calls_session").on(t.session),
  ],
);
