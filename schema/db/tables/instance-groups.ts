/** What a provider launched as one. For people and reports: the gateway itself asks its provider what runs. */
import { index, integer, pgTable, text } from "drizzle-orm/pg-core";
import { integer38 } from "./types.ts";

export const instanceGroups = pgTable(
  "instance_groups",
  {
    group: text().primaryKey(),
    cell: text().notNull(),
    node: text().notNull(),
    model: text().notNull(),
    role: text().notNull(),
    engine: text().notNull(),
    gpus: integer().notNull(),
    started_at_ns: integer38().notNull(),
    ended_at_ns: integer38(),
    end_reason: text(),
  },
  (t) => [index("instance_groups_cell").on(t.cell)],
);
