/** Moves, holds, posts or voids money: the SQL function post_transfer (migrations/) does it and says how it went. */
import type { Transfer, TransferOutcome } from "../../../core/ledger/transfer.ts";
import { type Db, only } from "../../sql.ts";

export type { Transfer, TransferOutcome } from "../../../core/ledger/transfer.ts";

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
