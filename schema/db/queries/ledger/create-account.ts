/** Opens a ledger account; one that is open already stays as it is. */
import type { Db } from "../../sql.ts";

export type NewAccount = {
  readonly account: string;
  /** Null: the platform's own. */
  readonly tenant: string | null;
  readonly name: string;
  readonly currency: string;
  /** A budget: what is held and spent may not exceed what was put in (I5). */
  readonly debits_within_credits: boolean;
};

export async function createAccount(sql: Db, a: NewAccount): Promise<void> {
  await sql`
    insert into accounts (account, tenant, name, currency, debits_within_credits)
    values (${a.account}::text, ${a.tenant}::text, ${a.name}::text, ${a.currency}::text, ${a.debits_within_credits}::boolean)
    on conflict (account) do nothing`;
}
