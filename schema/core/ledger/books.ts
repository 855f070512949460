/**
 * The ledger as a pure fold over transfers: the same rules and the same words as the SQL function post_transfer
 * (schema/db/migrations/), held against it by a differential test. What decides about money where there is no database: the
 * simulator, and whatever must know beforehand what Postgres will answer.
 *
 * A pending transfer holds money until it is resolved once, by a `post` of at most what it held or by a `void`. A budget is an
 * account whose debits, held and posted, may not exceed the credits that were posted to it (I5). Accounts and transfers are kept
 * for ever, as a ledger's are: what bounds them is who feeds it.
 */
import { type NanoMoney, nanoMoney } from "../money.ts";
import type { Transfer, TransferOutcome } from "./transfer.ts";

/** NUMERIC(38,0) holds less than this. Sums past it, which Postgres answers with an error, are not refused here. */
const AMOUNT_BEYOND = 10n ** 38n;

export type OpenAccount = { readonly account: string; readonly currency: string; readonly debits_within_credits: boolean };
export type Balance = {
  readonly debits_pending: NanoMoney;
  readonly debits_posted: NanoMoney;
  readonly credits_pending: NanoMoney;
  readonly credits_posted: NanoMoney;
};

type Account = OpenAccount & { debits_pending: bigint; debits_posted: bigint; credits_pending: bigint; credits_posted: bigint };
type Written = {
  readonly kind: Transfer["kind"];
  readonly debit: string;
  readonly credit: string;
  readonly amount: bigint;
  readonly resolves: string | null;
  readonly reason: string;
};

export class LedgerBooks {
  readonly #accounts = new Map<string, Account>();
  readonly #transfers = new Map<string, Written>();
  readonly #resolved = new Set<string>();

  /** One that is open already stays as it is. */
  open(account: OpenAccount): void {
    if (this.#accounts.has(account.account)) return;
    this.#accounts.set(account.account, { ...account, debits_pending: 0n, debits_posted: 0n, credits_pending: 0n, credits_posted: 0n });
  }

  balance(account: string): Balance | null {
    const found = this.#accounts.get(account);
    if (found === undefined) return null;
    const { debits_pending, debits_posted, credits_pending, credits_posted } = found;
    return {
      debits_pending: nanoMoney(debits_pending),
      debits_posted: nanoMoney(debits_posted),
      credits_pending: nanoMoney(credits_pending),
      credits_posted: nanoMoney(credits_posted),
    };
  }

  post(transfer: Transfer): TransferOutcome {
    const written = this.#read(transfer);
    if (typeof written === "string") return written;
    const { kind, debit, credit, amount } = written;
    if (amount < 0n || amount >= AMOUNT_BEYOND || (amount === 0n && (kind === "posted" || kind === "pending"))) return "invalid_amount";
    if (debit === credit) return "same_account";
    const before = this.#transfers.get(transfer.transfer);
    if (before !== undefined) return same(before, written) ? "exists" : "id_conflict";
    return this.#write(transfer.transfer, written);
  }

  /** What is to be written: a post or void takes its accounts from what it resolves. */
  #read(transfer: Transfer): Written | "pending_not_found" {
    if (transfer.kind === "post" || transfer.kind === "void") {
      const { kind, resolves, reason } = transfer;
      const held = this.#transfers.get(resolves);
      if (held?.kind !== "pending") return "pending_not_found";
      const amount = transfer.kind === "void" ? 0n : (transfer.amount ?? held.amount);
      return { kind, debit: held.debit, credit: held.credit, amount, resolves, reason };
    }
    const { kind, debit_account: debit, credit_account: credit, amount, reason } = transfer;
    return { kind, debit, credit, amount, resolves: null, reason };
  }

  #write(id: string, written: Written): TransferOutcome {
    const debit = this.#accounts.get(written.debit);
    const credit = this.#accounts.get(written.credit);
    if (debit === undefined || credit === undefined) return "account_not_found";
    if (debit.currency !== credit.currency) return "currency_mismatch";
    const { kind, amount, resolves } = written;
    const held = resolves === null ? 0n : (this.#transfers.get(resolves)?.amount ?? 0n);
    if (resolves !== null) {
      if (this.#resolved.has(resolves)) return "already_resolved";
      if (amount > held) return "exceeds_pending";
    } else if (debit.debits_within_credits && debit.debits_pending + debit.debits_posted + amount > debit.credits_posted)
      return "exceeds_credits";

    this.#transfers.set(id, written);
    if (resolves !== null) this.#resolved.add(resolves);
    const pending = kind === "pending" ? amount : -held;
    const posted = kind === "posted" || kind === "post" ? amount : 0n;
    debit.debits_pending += pending;
    debit.debits_posted += posted;
    credit.credits_pending += pending;
    credit.credits_posted += posted;
    return "created";
  }
}

function same(a: Written, b: Written): boolean {
  return (
    a.kind === b.kind &&
    a.debit === b.debit &&
    a.credit === b.credit &&
    a.amount === b.amount &&
    a.resolves === b.resolves &&
    a.reason === b.reason
  );
}
