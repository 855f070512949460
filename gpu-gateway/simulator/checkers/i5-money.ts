/**
 * I5: committed money never exceeds a budget; debits equal credits; what is posted never exceeds what was held; nothing runs that no money is
 * held for; and when all is over no hold is left. Sums of its own, from the transfers and the ledger's words on them.
 */
import type { Transfer, TransferOutcome } from "../../../schema/core/ledger/transfer.ts";
import type { Micros } from "../../../schema/core/time.ts";
import type { Effect } from "../../policy/effects.ts";
import type { SchedulerEvent } from "../../policy/events.ts";
import { Books } from "./checker.ts";

type Held = { readonly debit: string; readonly credit: string; readonly amount: bigint; readonly call: string };

export class MoneyChecker extends Books {
  readonly invariant = "I5";
  readonly #granted = new Map<string, bigint>();
  readonly #committed = new Map<string, bigint>();
  readonly #holds = new Map<string, Held>();
  readonly #calls_held = new Map<string, number>();
  #debits = 0n;
  #credits = 0n;

  money(transfer: Transfer, word: TransferOutcome, now: Micros): void {
    const expected = word === "created" || (transfer.kind === "pending" && word === "exceeds_credits");
    this.check(expected, now, () => `the ledger answered ${word} to ${transfer.kind} ${transfer.transfer}`);
    if (word !== "created") return;
    if (transfer.kind === "post" || transfer.kind === "void") this.#resolve(transfer, now);
    else if (transfer.kind === "posted") {
      add(this.#granted, transfer.credit_account, transfer.amount);
      this.#moved(transfer.amount, transfer.amount);
    } else {
      const { debit_account: debit, credit_account: credit, amount, reason: call } = transfer;
      this.#holds.set(transfer.transfer, { debit, credit, amount, call });
      this.#calls_held.set(call, (this.#calls_held.get(call) ?? 0) + 1);
      add(this.#committed, debit, amount);
      this.#moved(amount, amount);
      this.#within(debit, now);
    }
  }

  event(_event: SchedulerEvent, effects: readonly Effect[], now: Micros): void {
    for (const effect of effects)
      if (effect.type === "start_leg")
        this.check(
          (this.#calls_held.get(effect.call_id) ?? 0) > 0,
          now,
          () => `${effect.leg_id} was started and no money is held for its call`,
        );
  }

  override end(now: Micros): void {
    for (const [id, { call }] of this.#holds) this.check(false, now, () => `${id} for ${call} still holds money after all has ended`);
    this.check(this.#debits === this.#credits, now, () => `debits are ${this.#debits}, credits ${this.#credits}`);
  }

  #resolve(transfer: Extract<Transfer, { kind: "post" | "void" }>, now: Micros): void {
    const held = this.#holds.get(transfer.resolves);
    this.check(held !== undefined, now, () => `${transfer.transfer} resolves ${transfer.resolves}, which holds nothing`);
    if (held === undefined) return;
    const amount = transfer.kind === "void" ? 0n : (transfer.amount ?? held.amount);
    this.check(amount <= held.amount, now, () => `${transfer.transfer} posts ${amount} of ${held.amount} held`);
    this.#holds.delete(transfer.resolves);
    this.#calls_held.set(held.call, (this.#calls_held.get(held.call) ?? 1) - 1);
    add(this.#committed, held.debit, amount - held.amount);
    this.#moved(amount - held.amount, amount - held.amount);
    this.#within(held.debit, now);
  }

  #within(account: string, now: Micros): void {
    const [committed, granted] = [this.#committed.get(account) ?? 0n, this.#granted.get(account) ?? 0n];
    this.check(committed <= granted, now, () => `${account} has committed ${committed} of a budget of ${granted}`);
  }

  #moved(debits: bigint, credits: bigint): void {
    this.#debits += debits;
    this.#credits += credits;
  }
}

const add = (sums: Map<string, bigint>, key: string, amount: bigint): void => void sums.set(key, (sums.get(key) ?? 0n) + amount);
