/** The same usage id with another body: the first stays, the other is kept here for a person to look at. */
import { jsonb, pgTable, primaryKey, text, timestamp } from "drizzle-orm/pg-core";

export const usageConflicts = pgTable(
  "usage_conflicts",
  {
    tenant: text().notNull(),
    source: text().notNull(),
    id: text().notNull(),
    payload_hash: text().notNull(),
    stored_hash: text().notNull(),
    payload: jsonb().notNull(),
    seen_at: timestamp({ withTimezone: true }).notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.tenant, t.source, t.id, t.payload_hash] })],
);
