/** Postgres from the edge: a client of its own for each piece of work; a Worker cannot share a socket between requests. */
import { connect, type Socket } from "node:net";
import postgres from "postgres";
import type { Db } from "../schema/db/sql.ts";

const CONNECT_TIMEOUT_S = 5;
const CLOSE_TIMEOUT_S = 1;

/** Ends the client in the background when `use` is done. Throws what the driver throws. */
export async function withDatabase<T>(binding: Hyperdrive, use: (sql: Db) => Promise<T>): Promise<T> {
  const sql = postgres(binding.connectionString, {
    max: 1,
    fetch_types: false,
    connect_timeout: CONNECT_TIMEOUT_S,
    onnotice: () => {},
    ...socketOfOurs(binding),
  });
  try {
    return await use(sql);
  } finally {
    void sql.end({ timeout: CLOSE_TIMEOUT_S }).catch(() => undefined);
  }
}

/**
 * The driver's own socket for Workers reads on after it was closed, and throws where nobody can catch it. `socket` is an option of
 * the driver that its types leave out.
 */
function socketOfOurs(binding: Hyperdrive): object {
  const { host, port } = binding;
  const socket = () =>
    new Promise<Socket>((resolve, reject) => {
      const opened = connect({ host, port });
      opened.once("error", reject);
      opened.once("connect", () => {
        opened.removeListener("error", reject);
        resolve(opened);
      });
    });
  return { socket };
}
