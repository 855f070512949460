/** A client that stands still in this transaction is cut off after `idle_ms`, and what it had locked is free. */
import type { Db } from "../../sql.ts";

export async function boundIdle(sql: Db, idle_ms: number): Promise<void> {
  await sql`select set_config('idle_in_transaction_session_timeout', ${String(idle_ms)}::text, true)`;
}
