/**
 * What was written into `usage`: a row for each statement that wrote, by tenant, source, kind and minute. A trigger writes them with
 * the usage rows, in the same transaction; they are the second record that every usage row is held against, whatever its kind, so a
 * row that goes missing later shows in the report. Appended, as usage is: a counter in place would make concurrent writers of one
 * tenant wait for each other.
 */
import { bigint, index, integer, pgTable, text } from "drizzle-orm/pg-core";
import { integer38 } from "./types.ts";

export const usageTallies = pgTable(
  "usage_tallies",
  {
    tally: bigint({ mode: "bigint" }).primaryKey().generatedAlwaysAsIdentity(),
    tenant: text().notNull(),
    source: text().notNull(),
    kind: text().notNull(),
    /** The UTC minute in which the rows begin. */
    minute_ns: integer38().notNull(),
    rows: integer().notNull(),
    quantity: integer38().notNull(),
  },
  (t) => [index("usage_tallies_time").on(t.tenant, t.minute_ns)],
);
