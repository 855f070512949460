/** Postgres from the edge: a client of its own for each piece of work; a Worker cannot share a socket between requests. */
import postgres from "postgres";
import type { Db } from "../schema/db/sql.ts";

const CONNECT_TIMEOUT_S = 5;

/** Ends the client in the background when `use` is done. Throws what the driver throws. */
export async function withDatabase<T>(binding: Hyperdrive, use: (sql: Db) => Promise<T>): Promise<T> {
  const sql = postgres(binding.connectionString, { max: 1, fetch_types: false, connect_timeout: CONNECT_TIMEOUT_S, onnotice: () => {} });
  try {
    return await use(sql);
  } finally {
    void sql.end({ timeout: 1 }).catch(() => undefined);
  }
}
