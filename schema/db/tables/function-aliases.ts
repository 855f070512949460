/** A name (`live`) for one version of a function; deploying moves it. */
import { pgTable, primaryKey, text, timestamp } from "drizzle-orm/pg-core";
import { functionVersions } from "./function-versions.ts";
import { functions } from "./functions.ts";

export const functionAliases = pgTable(
  "function_aliases",
  {
    function: text()
      .notNull()
      .references(() => functions.function),
    alias: text().notNull(),
    version: text()
      .notNull()
      .references(() => functionVersions.version),
    moved_at: timestamp({ withTimezone: true }).notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.function, t.alias] })],
);
