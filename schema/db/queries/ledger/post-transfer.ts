/** Moves, holds, posts or voids money: the SQL function post_transfer (migrations/) does it and says how it went. */
import type { NanoMoney } from "../../../core/money.ts";
import { type Db, only } from "../../sql.ts";

export type Transfer =
  | {
      readonly kind: "posted" | "pending";
      readonly transfer: string;
      readonly debit_account: string;
      readonly credit_account: string;
      readonly amount: NanoMoney;
      readonly reason: string;
    }
  /** `amount` null: all of what is pending. The rest of it returns. */
  | {
      readonly kind: "post";
      readonly transfer: string;
      readonly resolves: string;
      readonly amount: NanoMoney | null;
      readonly reason: string;
    }
  | { readonly kind: "void"; readonly transfer: string; readonly resolves: string; readonly reason: string };

/** `exists`: the same transfer was written before, and nothing changed. The others changed nothing either. */
export type TransferOutcome =
  | "created"
  | "exists"
  | "id_conflict"
  | "invalid_amount"
  | "same_account"
  | "account_not_found"
  | "currency_mismatch"
  | "pending_not_found"
  | "already_resolved"
  | "exceeds_pending"
  | "exceeds_credits";

export async function postTransfer(sql: Db, t: Transfer): Promise<TransferOutcome> {
  const move = t.kind === "posted" || t.kind === "pending" ? t : null;
  const resolution = t.kind === "post" || t.kind === "void" ? t : null;
  const amount = t.kind === "void" || t.amount === null ? null : t.amount.toString();
  const row = only(
    await sql<{ outcome: TransferOutcome }[]>`
      select post_transfer(
        ${t.transfer}::text, ${t.kind}::text,
        ${move?.debit_account ?? null}::text, ${move?.credit_account ?? null}::text,
        ${amount}::numeric, ${resolution?.resolves ?? null}::text, ${t.reason}::text
      ) as outcome`,
  );
  return row.outcome;
}
