import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type FreshDatabase, freshDatabase } from "../../../../test/support/postgres.ts";
import { nanoMoney } from "../../../core/money.ts";
import { createAccount } from "./create-account.ts";
import { type AccountBalance, findAccount } from "./find-account.ts";
import { type Transfer, type TransferOutcome, postTransfer } from "./post-transfer.ts";

const CONNECTIONS = 16;
let db: FreshDatabase;
let serial = 0;

beforeAll(async () => {
  db = await freshDatabase({ max: CONNECTIONS });
});
afterAll(() => db.drop());

/** Accounts of one test: `bank` may go below, `budget` may not. */
async function open(...names: string[]): Promise<(name: string) => string> {
  serial += 1;
  const id = (name: string) => `acc_${serial}_${name}`;
  for (const name of names) {
    const [account, debits_within_credits] = [id(name), name.startsWith("budget")];
    await createAccount(db.sql, { account, tenant: null, name, currency: "EUR", debits_within_credits });
  }
  return id;
}
const move = (kind: "posted" | "pending", transfer: string, debit: string, credit: string, amount: bigint): Transfer => ({
  kind,
  transfer,
  debit_account: debit,
  credit_account: credit,
  amount: nanoMoney(amount),
  reason: "test",
});
const post = (transfer: string, resolves: string, amount: bigint | null): Transfer => ({
  kind: "post",
  transfer,
  resolves,
  amount: amount === null ? null : nanoMoney(amount),
  reason: "test",
});
const balance = async (account: string) => (await findAccount(db.sql, account))!;

/** I5: debits equal credits, in what is written and in the sums; the sums are the fold of what is written. */
async function checkBooks(): Promise<void> {
  const [sums] = await db.sql`
    select sum(debits_pending) = sum(credits_pending) as pending, sum(debits_posted) = sum(credits_posted) as posted from accounts`;
  expect(sums).toEqual({ pending: true, posted: true });
  const wrong = await db.sql`
    with moved as (
      select t.debit_account, t.credit_account,
        case t.kind when 'posted' then t.amount when 'pending' then coalesce(r.amount, 0) else 0 end as posted,
        case when t.kind = 'pending' and r.transfer is null then t.amount else 0 end as pending
      from transfers t left join transfers r on r.resolves = t.transfer
    ), folded as (
      select account,
        coalesce(sum(pending) filter (where debit_account = account), 0) as debits_pending,
        coalesce(sum(posted) filter (where debit_account = account), 0) as debits_posted,
        coalesce(sum(pending) filter (where credit_account = account), 0) as credits_pending,
        coalesce(sum(posted) filter (where credit_account = account), 0) as credits_posted
      from accounts left join moved on account in (debit_account, credit_account)
      group by account
    )
    select account from accounts join folded f using (account)
    where (accounts.debits_pending, accounts.debits_posted, accounts.credits_pending, accounts.credits_posted)
      is distinct from (f.debits_pending, f.debits_posted, f.credits_pending, f.credits_posted)`;
  expect([...wrong]).toEqual([]);
}

describe("one transfer after another", () => {
  test("moves, holds, posts in part, and gives the rest back", async () => {
    const id = await open("bank", "budget");
    expect(await postTransfer(db.sql, move("posted", `${id("t")}1`, id("bank"), id("budget"), 100n))).toBe("created");
    expect(await postTransfer(db.sql, move("pending", `${id("t")}2`, id("budget"), id("bank"), 60n))).toBe("created");
    expect(await balance(id("budget"))).toMatchObject({ debits_pending: 60n, debits_posted: 0n, credits_posted: 100n });
    expect(await postTransfer(db.sql, post(`${id("t")}3`, `${id("t")}2`, 25n))).toBe("created");
    expect(await balance(id("budget"))).toMatchObject({ debits_pending: 0n, debits_posted: 25n });
    expect(await balance(id("bank"))).toMatchObject({ debits_posted: 100n, credits_pending: 0n, credits_posted: 25n });
    await checkBooks();
  });

  test("the same transfer again changes nothing; its id for another is a conflict", async () => {
    const id = await open("bank", "budget");
    const fund = (kind: "posted" | "pending", amount: bigint) => move(kind, id("t"), id("bank"), id("budget"), amount);
    const put = fund("posted", 10n);
    const hold = move("pending", id("h"), id("budget"), id("bank"), 10n);
    const take = post(id("p"), id("h"), null);
    for (const outcome of ["created", "exists", "exists"] as const) {
      for (const t of [put, hold, take]) expect(await postTransfer(db.sql, t)).toBe(outcome);
    }
    expect(await postTransfer(db.sql, fund("posted", 11n))).toBe("id_conflict");
    expect(await postTransfer(db.sql, fund("pending", 10n))).toBe("id_conflict");
    expect(await postTransfer(db.sql, move("posted", id("t"), id("budget"), id("bank"), 10n))).toBe("id_conflict");
    expect(await balance(id("budget"))).toMatchObject({ credits_posted: 10n, debits_posted: 10n, debits_pending: 0n });
    await checkBooks();
  });

  test("a pending resolves once, by at most what it held", async () => {
    const id = await open("bank", "other");
    await postTransfer(db.sql, move("pending", id("h1"), id("bank"), id("other"), 5n));
    await postTransfer(db.sql, move("pending", id("h2"), id("bank"), id("other"), 5n));
    expect(await postTransfer(db.sql, post(id("a"), id("h1"), 6n))).toBe("exceeds_pending");
    expect(await postTransfer(db.sql, post(id("b"), id("h1"), 5n))).toBe("created");
    expect(await postTransfer(db.sql, post(id("c"), id("h1"), 0n))).toBe("already_resolved");
    expect(await postTransfer(db.sql, { kind: "void", transfer: id("d"), resolves: id("h1"), reason: "test" })).toBe("already_resolved");
    expect(await postTransfer(db.sql, { kind: "void", transfer: id("e"), resolves: id("h2"), reason: "test" })).toBe("created");
    expect(await postTransfer(db.sql, post(id("f"), id("h2"), null))).toBe("already_resolved");
    expect(await postTransfer(db.sql, post(id("g"), id("b"), null))).toBe("pending_not_found");
    expect(await postTransfer(db.sql, post(id("g"), "nothing", null))).toBe("pending_not_found");
    await checkBooks();
  });

  test("what a caller can get wrong has a word", async () => {
    const id = await open("bank", "budget");
    await createAccount(db.sql, { account: id("usd"), tenant: "ten_a", name: "usd", currency: "USD", debits_within_credits: false });
    const wrong: [Transfer, TransferOutcome][] = [
      [move("posted", id("x"), id("bank"), id("budget"), 0n), "invalid_amount"],
      [move("posted", id("x"), id("bank"), id("budget"), -1n), "invalid_amount"],
      [move("posted", id("x"), id("bank"), id("budget"), 10n ** 38n), "invalid_amount"],
      [move("posted", id("x"), id("bank"), id("bank"), 1n), "same_account"],
      [move("posted", id("x"), id("bank"), "acc_none", 1n), "account_not_found"],
      [move("posted", id("x"), "acc_none", id("bank"), 1n), "account_not_found"],
      [move("posted", id("x"), id("bank"), id("usd"), 1n), "currency_mismatch"],
      [move("posted", id("x"), id("budget"), id("bank"), 1n), "exceeds_credits"],
      [move("pending", id("x"), id("budget"), id("bank"), 1n), "exceeds_credits"],
    ];
    for (const [transfer, outcome] of wrong) expect(await postTransfer(db.sql, transfer), outcome).toBe(outcome);
    expect(await postTransfer(db.sql, move("posted", id("x"), id("bank"), id("budget"), 1n))).toBe("created");
    await checkBooks();
  });

  test("a budget cannot be overdrawn behind the function's back either", async () => {
    const id = await open("budget");
    await expect(db.sql`update accounts set debits_posted = 1 where account = ${id("budget")}`).rejects.toThrow(/accounts_within/);
    await expect(db.sql`update accounts set debits_pending = -1 where account = ${id("budget")}`).rejects.toThrow(/accounts_not_negative/);
  });
});

describe("many connections at once", () => {
  test("a hundred holds on a budget for ten: ten are held, never one more", async () => {
    const id = await open("bank", "budget");
    await postTransfer(db.sql, move("posted", id("fund"), id("bank"), id("budget"), 10n));
    const outcomes = await Promise.all(
      Array.from({ length: 100 }, (_, i) => postTransfer(db.sql, move("pending", `${id("h")}${i}`, id("budget"), id("bank"), 1n))),
    );
    expect(outcomes.filter((o) => o === "created")).toHaveLength(10);
    expect(outcomes.filter((o) => o === "exceeds_credits")).toHaveLength(90);
    await checkBooks();
  });

  test("one id from all sides: created once", async () => {
    const id = await open("bank", "a", "b", "c");
    const same = Array.from({ length: 30 }, () => move("posted", id("same"), id("bank"), id("a"), 1n));
    const outcomes = await Promise.all(same.map((t) => postTransfer(db.sql, t)));
    expect([outcomes.filter((o) => o === "created").length, outcomes.filter((o) => o === "exists").length]).toEqual([1, 29]);
    // Over other accounts, so that no lock is shared.
    const [x, y] = [move("posted", id("other"), id("bank"), id("a"), 1n), move("posted", id("other"), id("b"), id("c"), 1n)];
    const mixed = await Promise.all(Array.from({ length: 30 }, (_, i) => postTransfer(db.sql, i % 2 ? x : y)));
    expect(mixed.filter((o) => o === "created")).toHaveLength(1);
    expect(mixed.filter((o) => o === "id_conflict")).toHaveLength(15);
    await checkBooks();
  });

  test("a pending that thirty want to resolve is resolved by one", async () => {
    const id = await open("bank", "a");
    await postTransfer(db.sql, move("pending", id("h"), id("bank"), id("a"), 9n));
    const outcomes = await Promise.all(
      Array.from({ length: 30 }, (_, i) =>
        postTransfer(
          db.sql,
          i % 2
            ? post(`${id("r")}${i}`, id("h"), BigInt(i % 9))
            : { kind: "void", transfer: `${id("r")}${i}`, resolves: id("h"), reason: "test" },
        ),
      ),
    );
    expect(outcomes.filter((o) => o === "created")).toHaveLength(1);
    expect(outcomes.filter((o) => o === "already_resolved")).toHaveLength(29);
    await checkBooks();
  });

  test("any mixture, in circles, over all connections: the books hold and nobody deadlocks", async () => {
    const name = fc.constantFrom("bank", "a", "b", "budget1", "budget2");
    const amount = fc.bigInt({ min: 1n, max: 20n });
    const id = fc.nat(11);
    const step = fc.oneof(
      fc.record({ kind: fc.constantFrom("posted" as const, "pending" as const), id, debit: name, credit: name, amount }),
      fc.record({ kind: fc.constant("post" as const), id, of: id, amount: fc.option(amount) }),
      fc.record({ kind: fc.constant("void" as const), id, of: id }),
    );
    const run = fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 60 }), async (steps) => {
      const of = await open("bank", "a", "b", "budget1", "budget2");
      await postTransfer(db.sql, move("posted", of("fund"), of("bank"), of("budget1"), 30n));
      const transfers = steps.map((s): Transfer => {
        const transfer = of(`t${s.id}`);
        if (s.kind === "post") return post(transfer, of(`t${s.of}`), s.amount);
        if (s.kind === "void") return { kind: "void", transfer, resolves: of(`t${s.of}`), reason: "test" };
        return move(s.kind, transfer, of(s.debit), of(s.credit), s.amount);
      });
      const outcomes = await Promise.all(transfers.map((t) => postTransfer(db.sql, t)));
      const created = transfers.filter((_, i) => outcomes[i] === "created").map((t) => t.transfer);
      expect(new Set(created).size).toBe(created.length);
      await checkBooks();
      for (const budget of ["budget1", "budget2"]) {
        const b: AccountBalance = await balance(of(budget));
        expect(b.debits_pending + b.debits_posted <= b.credits_posted).toBe(true);
      }
    });
    await fc.assert(run, { numRuns: 40 });
  });
});
