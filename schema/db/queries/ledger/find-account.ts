/** An account with its four sums. */
import { type NanoMoney, nanoMoney } from "../../../core/money.ts";
import type { Db } from "../../sql.ts";

export type AccountBalance = {
  readonly account: string;
  readonly currency: string;
  readonly debits_pending: NanoMoney;
  readonly debits_posted: NanoMoney;
  readonly credits_pending: NanoMoney;
  readonly credits_posted: NanoMoney;
};

const SUMS = ["debits_pending", "debits_posted", "credits_pending", "credits_posted"] as const;

export async function findAccount(sql: Db, account: string): Promise<AccountBalance | null> {
  const [row] = await sql<(Record<(typeof SUMS)[number], string> & { account: string; currency: string })[]>`
    select account, currency, debits_pending::text as debits_pending, debits_posted::text as debits_posted,
      credits_pending::text as credits_pending, credits_posted::text as credits_posted
    from accounts where account = ${account}::text`;
  if (row === undefined) return null;
  const money = (name: (typeof SUMS)[number]) => nanoMoney(BigInt(row[name]));
  return {
    account: row.account,
    currency: row.currency,
    debits_pending: money("debits_pending"),
    debits_posted: money("debits_posted"),
    credits_pending: money("credits_pending"),
    credits_posted: money("credits_posted"),
  };
}
