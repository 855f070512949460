/** How money moves between ledger accounts: what may be asked, and the words of the answer. */
import type { NanoMoney } from "../money.ts";

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
