import { reason } from "../reason.ts";

/** Postgres cannot be had. `message` is one line that says what to do. */
export class PostgresUnavailable extends Error {
  override readonly name = "PostgresUnavailable";
}

export const oneLine = (error: unknown): string => reason(error).replace(/\.$/, "");
