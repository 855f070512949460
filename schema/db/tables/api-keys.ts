/** API keys: only the secret's hash is kept (schema/core/keys.ts). A key is revoked, never deleted: usage names it. */
import { index, pgTable, text, timestamp } from "drizzle-orm/pg-core";
import { projects } from "./projects.ts";
import { tenants } from "./tenants.ts";

export const apiKeys = pgTable(
  "api_keys",
  {
    key: text().primaryKey(),
    tenant: text()
      .notNull()
      .references(() => tenants.tenant),
    project: text()
      .notNull()
      .references(() => projects.project),
    name: text().notNull(),
    secret_hash: text().notNull(),
    scopes: text().array().notNull(),
    created_at: timestamp({ withTimezone: true }).notNull().defaultNow(),
    expires_at: timestamp({ withTimezone: true }),
    revoked_at: timestamp({ withTimezone: true }),
  },
  (t) => [index("api_keys_project").on(t.project), index("api_keys_revoked").on(t.revoked_at)],
);
