/** The pure ledger (schema/core/ledger) and the SQL function: the same transfers, the same words, the same sums (I5). */
import * as fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type FreshDatabase, freshDatabase } from "../../../../test/support/postgres.ts";
import { LedgerBooks } from "../../../core/ledger/books.ts";
import type { Transfer, TransferOutcome } from "../../../core/ledger/transfer.ts";
import { nanoMoney } from "../../../core/money.ts";
import { createAccount } from "./create-account.ts";
import { findAccount } from "./find-account.ts";
import { postTransfer } from "./post-transfer.ts";

const CASES = 250;
let db: FreshDatabase;
let serial = 0;

beforeAll(async () => {
  db = await freshDatabase({ max: 2 });
});
afterAll(() => db.drop());

const ACCOUNTS = [
  { name: "bank", currency: "EUR", debits_within_credits: false },
  { name: "budget_a", currency: "EUR", debits_within_credits: true },
  { name: "budget_b", currency: "EUR", debits_within_credits: true },
  { name: "dollars", currency: "USD", debits_within_credits: false },
] as const;

/** Few names, ids and amounts, so that they meet: repeats, conflicts, second resolutions, empty budgets. */
const name = fc.constantFrom("bank", "bank", "budget_a", "budget_b", "dollars", "nobody");
const id = fc.integer({ min: 0, max: 15 });
const amount = fc.oneof(
  { weight: 12, arbitrary: fc.bigInt(1n, 60n) },
  { weight: 1, arbitrary: fc.constantFrom(0n, -3n, 10n ** 38n, 10n ** 40n) },
);
const reason = fc.constantFrom("use", "use", "use", "grant");
type Drawn =
  | { kind: "posted" | "pending"; id: number; debit: string; credit: string; amount: bigint; reason: string }
  | { kind: "post"; id: number; resolves: number; amount: bigint | null; reason: string }
  | { kind: "void"; id: number; resolves: number; reason: string };
const drawn: fc.Arbitrary<Drawn> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constantFrom("posted" as const, "pending" as const, "pending" as const),
      id,
      debit: name,
      credit: name,
      amount,
      reason,
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("post" as const), id, resolves: id, amount: fc.option(amount), reason }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("void" as const), id, resolves: id, reason }) },
);

/** Both ledgers, new accounts: the words as they come, which are the same from both. */
async function words(all: readonly Drawn[]): Promise<TransferOutcome[]> {
  serial += 1;
  const of = (what: string) => `b${serial}_${what}`;
  const books = new LedgerBooks();
  for (const account of ACCOUNTS) {
    const opened = { ...account, account: of(account.name) };
    books.open(opened);
    await createAccount(db.sql, { ...opened, tenant: null });
  }
  const heard: TransferOutcome[] = [];
  for (const one of all) {
    const transfer = toTransfer(one, of);
    const word = books.post(transfer);
    expect({ transfer, word: await postTransfer(db.sql, transfer) }).toEqual({ transfer, word });
    heard.push(word);
  }
  for (const account of ACCOUNTS) expect(await findAccount(db.sql, of(account.name))).toMatchObject(books.balance(of(account.name))!);
  return heard;
}

test("random transfers: the same word for each, the same sums after all", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(drawn, { minLength: 20, maxLength: 60, size: "max" }), async (all) => {
      await words(all);
    }),
    { numRuns: CASES },
  );
}, 60_000);

test("each word, once", async () => {
  const move = (kind: "posted" | "pending", at: number, debit: string, credit: string, of: bigint): Drawn => ({
    kind,
    id: at,
    debit,
    credit,
    amount: of,
    reason: "use",
  });
  const post = (at: number, resolves: number, of: bigint | null): Drawn => ({ kind: "post", id: at, resolves, amount: of, reason: "use" });
  const said: readonly (readonly [Drawn, TransferOutcome])[] = [
    [move("posted", 1, "bank", "budget_a", 100n), "created"],
    [move("posted", 1, "bank", "budget_a", 100n), "exists"],
    [move("posted", 1, "bank", "budget_a", 101n), "id_conflict"],
    [move("posted", 2, "bank", "budget_a", 0n), "invalid_amount"],
    [move("posted", 2, "bank", "bank", 1n), "same_account"],
    [move("posted", 2, "bank", "nobody", 1n), "account_not_found"],
    [move("posted", 2, "bank", "dollars", 1n), "currency_mismatch"],
    [post(2, 1, null), "pending_not_found"],
    [move("pending", 3, "budget_a", "bank", 60n), "created"],
    [move("pending", 4, "budget_a", "bank", 41n), "exceeds_credits"],
    [post(5, 3, 61n), "exceeds_pending"],
    [post(5, 3, 20n), "created"],
    [{ kind: "void", id: 6, resolves: 3, reason: "use" }, "already_resolved"],
    [move("pending", 4, "budget_a", "bank", 80n), "created"],
    [{ kind: "void", id: 6, resolves: 4, reason: "use" }, "created"],
  ];
  expect(await words(said.map(([transfer]) => transfer))).toEqual(said.map(([, word]) => word));
});

function toTransfer(one: Drawn, of: (what: string) => string): Transfer {
  const transfer = of(`t${one.id}`);
  if (one.kind === "void") return { kind: "void", transfer, resolves: of(`t${one.resolves}`), reason: one.reason };
  if (one.kind === "post") {
    const posted = one.amount === null ? null : nanoMoney(one.amount);
    return { kind: "post", transfer, resolves: of(`t${one.resolves}`), amount: posted, reason: one.reason };
  }
  const moved = { debit_account: of(one.debit), credit_account: of(one.credit), amount: nanoMoney(one.amount), reason: one.reason };
  return { kind: one.kind, transfer, ...moved };
}
