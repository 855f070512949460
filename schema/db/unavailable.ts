/**
 * Which errors of a database client mean that the same request may succeed later: no connection, a server that is starting or
 * stopping or full, a transaction that lost to another. Everything else is a bug, of ours or in the data.
 */

/** Codes of postgres.js and of sockets. */
const CONNECTION_CODES: ReadonlySet<string> = new Set([
  "CONNECTION_CLOSED",
  "CONNECTION_ENDED",
  "CONNECTION_DESTROYED",
  "CONNECT_TIMEOUT",
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
]);
/** SQLSTATE: 08 connection, 53 out of resources, 57P operator intervention, and the two that a transaction is repeated for. */
const SQLSTATE = /^(?:08...|53...|57P0[1-5]|40001|40P01|55P03)$/;

/** A reason for a log line, or null: not that kind of error. */
export function unavailableReason(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  // Node tries several addresses of a name at once and reports all failures as one.
  if (error instanceof AggregateError) {
    for (const inner of error.errors) {
      const reason = unavailableReason(inner);
      if (reason !== null) return reason;
    }
  }
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  if (CONNECTION_CODES.has(code) || SQLSTATE.test(code)) return `${code}: ${error.message}`;
  return null;
}
