/**
 * Postgres from the edge: a client of its own for each piece of work. A Worker may not share a socket between requests, nor an object
 * with another; so what many objects would ask or say, one of them asks and says for all (callees.ts, usage-outbox.ts).
 */
import { connect, type Socket } from "node:net";
import postgres from "postgres";
import type { Db } from "../schema/db/sql.ts";

const CONNECT_TIMEOUT_S = 5;
const CLOSE_TIMEOUT_S = 1;

/** A server that is full is asked again for so long: a fan-out comes in a burst, and its connections are short. Then it throws. */
const FULL_WAIT_MS_MAX = 10_000;
const FULL_PAUSE_MS_MIN = 50;
const FULL_PAUSE_MS_MAX = 1_000;

/** Ends the client in the background when `use` is done. Throws what the driver throws. */
export async function withDatabase<T>(binding: Hyperdrive, use: (sql: Db) => Promise<T>): Promise<T> {
  const until_ms = Date.now() + FULL_WAIT_MS_MAX;
  for (let pause_ms = FULL_PAUSE_MS_MIN; ; pause_ms = Math.min(2 * pause_ms, FULL_PAUSE_MS_MAX)) {
    const tried = await tryDatabase(binding, use);
    if (tried.kind === "used") return tried.value;
    // Half of the pause is by chance, so that those who were refused together do not come back together.
    const chosen_ms = pause_ms * (0.5 + Math.random() / 2);
    if (Date.now() + chosen_ms > until_ms) throw tried.error;
    await new Promise<void>((resolve) => setTimeout(resolve, chosen_ms));
  }
}

type Tried<T> = { readonly kind: "used"; readonly value: T } | { readonly kind: "full"; readonly error: unknown };

async function tryDatabase<T>(binding: Hyperdrive, use: (sql: Db) => Promise<T>): Promise<Tried<T>> {
  let let_in = false;
  const sql = postgres(binding.connectionString, {
    max: 1,
    fetch_types: false,
    connect_timeout: CONNECT_TIMEOUT_S,
    onnotice: () => {},
    // The server's parameters come once it has let the client in: before that nothing of `use` has happened.
    onparameter: () => {
      let_in = true;
    },
    ...socketOfOurs(binding),
  });
  try {
    return { kind: "used", value: await use(sql) };
  } catch (error) {
    if (!let_in && isFull(error)) return { kind: "full", error };
    throw error;
  } finally {
    void sql.end({ timeout: CLOSE_TIMEOUT_S }).catch(() => undefined);
  }
}

/** `too_many_connections`; a role's or database's own limit has the same code. */
const isFull = (error: unknown): boolean => error instanceof Error && "code" in error && error.code === "53300";

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
