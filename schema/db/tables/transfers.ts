/**
 * Double-entry movements between two accounts, append-only (trigger), each with an id that the client gave.
 * `posted` moves at once. `pending` holds; a later `post` (of at most its amount) or `void` resolves it, once: `resolves` is unique.
 */
import { sql } from "drizzle-orm";
import { check, index, pgTable, text, timestamp, unique } from "drizzle-orm/pg-core";
import { accounts } from "./accounts.ts";
import { integer38 } from "./types.ts";

export const transfers = pgTable(
  "transfers",
  {
    transfer: text().primaryKey(),
    kind: text().notNull(),
    debit_account: text()
      .notNull()
      .references(() => accounts.account),
    credit_account: text()
      .notNull()
      .references(() => accounts.account),
    amount: integer38().notNull(),
    resolves: text(),
    /** What it was for, low-cardinality. */
    reason: text().notNull(),
    created_at: timestamp({ withTimezone: true }).notNull().defaultNow(),
  },
  (t) => [
    unique("transfers_resolves").on(t.resolves),
    index("transfers_debit").on(t.debit_account),
    index("transfers_credit").on(t.credit_account),
    check("transfers_kind", sql`${t.kind} in ('posted', 'pending', 'post', 'void')`),
    check("transfers_resolves_kind", sql`(${t.resolves} is not null) = (${t.kind} in ('post', 'void'))`),
    check("transfers_two_accounts", sql`${t.debit_account} <> ${t.credit_account}`),
    check("transfers_amount", sql`${t.amount} >= 0 and (${t.amount} > 0 or ${t.kind} in ('post', 'void'))`),
  ],
);
