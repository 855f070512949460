/**
 * Ledger accounts. The four sums change only in post_transfer (migrations/), together with the transfer that moves them;
 * the checks are the last line of I5.
 */
import { sql } from "drizzle-orm";
import { boolean, check, index, pgTable, text, timestamp } from "drizzle-orm/pg-core";
import { integer38 } from "./types.ts";

export const accounts = pgTable(
  "accounts",
  {
    account: text().primaryKey(),
    /** Null: the platform's own. */
    tenant: text(),
    name: text().notNull(),
    currency: text().notNull(),
    /** A budget: what is held and spent may not exceed what was put in. */
    debits_within_credits: boolean().notNull().default(false),
    debits_pending: integer38()
      .notNull()
      .default(sql`0`),
    debits_posted: integer38()
      .notNull()
      .default(sql`0`),
    credits_pending: integer38()
      .notNull()
      .default(sql`0`),
    credits_posted: integer38()
      .notNull()
      .default(sql`0`),
    created_at: timestamp({ withTimezone: true }).notNull().defaultNow(),
  },
  (t) => [
    index("accounts_tenant").on(t.tenant),
    check(
      "accounts_not_negative",
      sql`${t.debits_pending} >= 0 and ${t.debits_posted} >= 0 and ${t.credits_pending} >= 0 and ${t.credits_posted} >= 0`,
    ),
    check("accounts_within", sql`not ${t.debits_within_credits} or ${t.debits_pending} + ${t.debits_posted} <= ${t.credits_posted}`),
  ],
);
