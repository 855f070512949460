/**
 * Stretches of a node's GPUs being ours, copied from the node agents' own records: the side of the reconciliation that the fold
 * has no hand in (I1). A row is written once; only its end is filled in later, once.
 */
import { sql } from "drizzle-orm";
import { check, index, integer, pgTable, primaryKey, text } from "drizzle-orm/pg-core";
import { integer38 } from "./types.ts";

export const provisions = pgTable(
  "provisions",
  {
    cell: text().notNull(),
    provision: text().notNull(),
    node: text().notNull(),
    gpus: integer().notNull(),
    provisioned_at_ns: integer38().notNull(),
    released_at_ns: integer38(),
    reported_by: text().notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.cell, t.provision] }),
    index("provisions_node").on(t.node),
    check("provisions_gpus", sql`${t.gpus} > 0`),
    check("provisions_order", sql`${t.released_at_ns} >= ${t.provisioned_at_ns}`),
  ],
);
