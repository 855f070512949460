/** Postgres cannot be had. `message` is one line that says what to do. */
export class PostgresUnavailable extends Error {
  override readonly name = "PostgresUnavailable";
}

export function oneLine(error: unknown): string {
  // Node tries several addresses of a name at once, and then reports all failures in one error without a message of its own.
  if (error instanceof AggregateError && error.message === "" && error.errors.length > 0) return oneLine(error.errors[0]);
  const text = error instanceof Error ? error.message : String(error);
  return (text.split("\n").find((line) => line.trim() !== "") ?? "unknown error").trim().replace(/\.$/, "");
}
