/** A deployed agent function, by name; what it does stands in its versions. */
import { pgTable, text, timestamp, unique } from "drizzle-orm/pg-core";
import { projects } from "./projects.ts";
import { tenants } from "./tenants.ts";

export const functions = pgTable(
  "functions",
  {
    function: text().primaryKey(),
    tenant: text()
      .notNull()
      .references(() => tenants.tenant),
    project: text()
      .notNull()
      .references(() => projects.project),
    name: text().notNull(),
    created_at: timestamp({ withTimezone: true }).notNull().defaultNow(),
  },
  (t) => [unique("functions_name").on(t.project, t.name)],
);
