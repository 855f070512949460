/** What a tenant keeps apart: functions and keys belong to one project. */
import { pgTable, text, timestamp, unique } from "drizzle-orm/pg-core";
import { tenants } from "./tenants.ts";

export const projects = pgTable(
  "projects",
  {
    project: text().primaryKey(),
    tenant: text()
      .notNull()
      .references(() => tenants.tenant),
    name: text().notNull(),
    created_at: timestamp({ withTimezone: true }).notNull().defaultNow(),
  },
  (t) => [unique("projects_name").on(t.tenant, t.name)],
);
