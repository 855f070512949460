/** Code and configuration as deployed, never changed (a trigger refuses it): a run keeps the version that it began with. */
import { jsonb, pgTable, text, timestamp, unique } from "drizzle-orm/pg-core";
import { functions } from "./functions.ts";

export const functionVersions = pgTable(
  "function_versions",
  {
    version: text().primaryKey(),
    function: text()
      .notNull()
      .references(() => functions.function),
    code: text().notNull(),
    code_hash: text().notNull(),
    config: jsonb().notNull(),
    config_hash: text().notNull(),
    created_at: timestamp({ withTimezone: true }).notNull().defaultNow(),
  },
  (t) => [unique("function_versions_content").on(t.function, t.code_hash, t.config_hash)],
);
