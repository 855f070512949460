/**
 * What a session's turns wrote with `ctx.log` and `console`: for the function's author, and therefore apart from the log of events
 * that its users read. `seq` counts from 1 without gaps; beyond LOG_LINES_MAX the oldest lines go, because a session may live for
 * months and what is asked for is what happened last.
 */
import { LOG_LINES_MAX } from "../../schema/core/wire/limits.ts";
import type { ExecutionFact } from "../runtime/execution.ts";
import { utf8Bytes } from "../runtime/utf8.ts";
import { LINES_PAGE_MAX, pageOf } from "./page.ts";
import type { LogLine } from "./run-spec.ts";

export type SessionLine = LogLine & { readonly turn: string };
/** `seq` is the last line's number; 0 for none. */
export type SessionLinesPage = { readonly lines: SessionLine[]; readonly seq: number; readonly dropped: number };
type LogFact = Extract<ExecutionFact, { type: "log" }>;

export class SessionLines {
  readonly #sql: SqlStorage;
  readonly #lines_max: number;

  constructor(sql: SqlStorage, lines_max = LOG_LINES_MAX) {
    this.#sql = sql;
    this.#lines_max = lines_max;
  }

  /** If it is missing: the first sessions of format 1 kept no lines. */
  static createTable(sql: SqlStorage): void {
    sql.exec(`CREATE TABLE IF NOT EXISTS session_lines (
      seq INTEGER PRIMARY KEY, turn TEXT NOT NULL, at_ms INTEGER NOT NULL, level TEXT NOT NULL, text TEXT NOT NULL)`);
  }

  /** Inside the transaction of the other facts (I4). */
  append(turn: string, facts: readonly ExecutionFact[]): void {
    const lines = facts.filter((fact): fact is LogFact => fact.type === "log");
    if (lines.length === 0) return;
    for (const { at_ms, level, text } of lines) {
      this.#sql.exec("INSERT INTO session_lines (turn, at_ms, level, text) VALUES (?, ?, ?, ?)", turn, at_ms, level, text);
    }
    this.#sql.exec("DELETE FROM session_lines WHERE seq <= (SELECT max(seq) FROM session_lines) - ?", this.#lines_max);
  }

  page(after: number, limit = LINES_PAGE_MAX): SessionLinesPage {
    const lines = pageOf(
      this.#sql.exec<SessionLine>(
        "SELECT seq, turn, at_ms, level, text FROM session_lines WHERE seq > ? ORDER BY seq LIMIT ?",
        after,
        limit,
      ),
      (line) => utf8Bytes(line.text),
    );
    // Rows go only from the front, so that the first number tells how many went.
    const { first, last } = this.#sql
      .exec<{ first: number; last: number }>("SELECT coalesce(min(seq), 1) AS first, coalesce(max(seq), 0) AS last FROM session_lines")
      .one();
    return { lines, seq: last, dropped: first - 1 };
  }
}
