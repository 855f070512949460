/**
 * What every query takes first: a postgres.js client or an open transaction, made by whoever runs: Node, or a Worker through
 * Hyperdrive (`postgres(env.DB.connectionString, {max: 5, fetch_types: false})`, a client per request).
 *
 * So that both give the same, whatever their `fetch_types` and `prepare`:
 *  - every parameter is cast where it stands;
 *  - arrays go as array literals (`arrayOf`): without `fetch_types` the client does not know array types;
 *  - JSON goes as `${text}::text::jsonb`: a parameter seen as jsonb would be encoded twice;
 *  - what is more than 53 bits wide comes and goes as text; arrays come as JSON.
 */
import type postgres from "postgres";

export type Db = postgres.ISql;

/**
 * Postgres holds no NUL in text, and one in a name that a guest chose would stop a whole batch for ever: it becomes U+FFFD, as lone
 * surrogates do on the way to UTF-8.
 */
export const withoutNul = (text: string): string => text.replaceAll("\0", "\uFFFD");

/** An array literal for `${arrayOf(values)}::text[]` (or ::numeric[] …). */
export function arrayOf(values: Iterable<string | number | bigint | null | undefined>): string {
  const items: string[] = [];
  for (const value of values) {
    if (value === null || value === undefined) items.push("NULL");
    else if (typeof value === "string") items.push(`"${withoutNul(value).replaceAll(/["\\]/g, "\\$&")}"`);
    else items.push(value.toString());
  }
  return `{${items.join(",")}}`;
}

/** RFC 3339 with milliseconds, of what the client made of a timestamptz. */
export const instantOf = (value: Date): string => value.toISOString();
export const instantOrNull = (value: Date | null): string | null => (value === null ? null : value.toISOString());

/** For statements that always answer one row: its absence is a bug of ours. */
export function only<Row>(rows: readonly Row[]): Row {
  const [row] = rows;
  if (row === undefined) throw new Error("a statement that answers exactly one row answered none");
  return row;
}
