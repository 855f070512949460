/**
 * Money around calls (I5): each tenant has a budget; before a call is submitted its worst case is held, at its end what it used is posted
 * and the rest returns. A hold is named by the call and how often it was accepted: a call that a gateway lost and runs again is held for again.
 *
 * Decided by the pure ledger (schema/core/ledger). What is not modelled: spend leased to a cell and spent in memory (D6).
 */
import type { CallId, TenantId } from "../../../schema/core/ids.ts";
import { failure, type Failure } from "../../../schema/core/errors.ts";
import { LedgerBooks } from "../../../schema/core/ledger/books.ts";
import type { Transfer, TransferOutcome } from "../../../schema/core/ledger/transfer.ts";
import { nanoMoney } from "../../../schema/core/money.ts";
import type { MeteringRecord } from "../../policy/metering/records.ts";
import type { Call } from "../../policy/vocabulary.ts";

/** Nano-units a token. */
export const PROMPT_PRICE = 200n;
export const OUTPUT_PRICE = 600n;
export const PLATFORM = "acc_platform";
export const INCOME = "acc_income";
export const budgetOf = (tenant: string): string => `acc_${tenant}`;

export type MoneyParts = {
  readonly budgets: Readonly<Record<string, bigint>>;
  readonly told: (transfer: Transfer, word: TransferOutcome) => void;
  /** A planted bug: accounts that are no budgets. */
  readonly unbounded?: boolean;
};

type Hold = { readonly id: string; readonly call: Call };

export class SimMoney {
  readonly #ledger = new LedgerBooks();
  readonly #told: MoneyParts["told"];
  readonly #held = new Map<CallId, Hold>();
  readonly #times = new Map<CallId, number>();

  constructor({ budgets, told, unbounded }: MoneyParts) {
    this.#told = told;
    for (const account of [PLATFORM, INCOME]) this.#ledger.open({ account, currency: "EUR", debits_within_credits: false });
    for (const [tenant, amount] of Object.entries(budgets)) {
      const account = budgetOf(tenant);
      this.#ledger.open({ account, currency: "EUR", debits_within_credits: unbounded !== true });
      const grant = {
        kind: "posted",
        transfer: `grant_${tenant}`,
        debit_account: PLATFORM,
        credit_account: account,
        reason: "grant",
      } as const;
      this.#post({ ...grant, amount: nanoMoney(amount) });
    }
  }

  /** Calls that hold money. */
  get held(): number {
    return this.#held.size;
  }

  hold(call: Call): Failure | null {
    if (this.#held.has(call.call_id)) return null;
    const times = (this.#times.get(call.call_id) ?? 0) + 1;
    this.#times.set(call.call_id, times);
    const id = `hold_${call.call_id}_${times}`;
    const word = this.#post({
      kind: "pending",
      transfer: id,
      debit_account: budgetOf(call.tenant),
      credit_account: INCOME,
      amount: nanoMoney(worstCharge(call)),
      reason: call.call_id,
    });
    if (word !== "created") return failure("budget_exhausted");
    this.#held.set(call.call_id, { id, call });
    return null;
  }

  /** Never taken: refused at the door, or lost with a gateway before it was journalled. */
  release(call: CallId): void {
    const held = this.#held.get(call);
    if (held === undefined) return;
    this.#held.delete(call);
    this.#post({ kind: "void", transfer: `void_${held.id}`, resolves: held.id, reason: call });
  }

  /** The journal says that it ended, and with which tokens. */
  ended(record: Extract<MeteringRecord, { type: "call_ended" }>): void {
    const held = this.#held.get(record.call);
    if (held === undefined) return;
    const { prompt, completion } = record.tokens;
    const amount = BigInt(prompt) * PROMPT_PRICE + BigInt(completion) * OUTPUT_PRICE;
    if (amount === 0n) return this.release(record.call);
    this.#held.delete(record.call);
    this.#post({ kind: "post", transfer: `post_${held.id}`, resolves: held.id, amount: nanoMoney(amount), reason: record.call });
  }

  /** A gateway starts: nothing that an earlier one held for goes on. */
  releaseAll(): void {
    for (const call of this.#held.keys()) this.release(call);
  }

  #post(transfer: Transfer): TransferOutcome {
    const word = this.#ledger.post(transfer);
    this.#told(transfer, word);
    return word;
  }
}

export const worstCharge = ({ prompt_tokens, max_tokens }: Pick<Call, "prompt_tokens" | "max_tokens">): bigint =>
  BigInt(prompt_tokens) * PROMPT_PRICE + BigInt(max_tokens) * OUTPUT_PRICE;

/** What tenants are called in a scenario. */
export const tenantId = (name: string): TenantId => `ten_${name}` as TenantId;
