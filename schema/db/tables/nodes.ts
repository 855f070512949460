/** Machines with GPUs, as their agents reported them. */
import { integer, pgTable, text, timestamp } from "drizzle-orm/pg-core";

export const nodes = pgTable("nodes", {
  node: text().primaryKey(),
  cell: text().notNull(),
  gpus: integer().notNull(),
  /** What prices name; set by an operator where it is not an A100. */
  gpu_type: text().notNull().default("a100"),
  reported_by: text().notNull(),
  seen_at: timestamp({ withTimezone: true }).notNull().defaultNow(),
});
