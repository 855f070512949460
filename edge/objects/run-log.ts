/**
 * A run's rows in its object's SQLite: what it is, its events (seq without gaps), its log lines, what it still owes to others.
 * `format` says how they are laid out, so that a later version can open what this one stored.
 *
 *   1  the run's row has the input, inside `spec`, and the outcome
 *   2  each is a row of its own, because a row holds 2 MB and either may be 1 MiB of JSON
 */
import type { Failure } from "../../schema/core/errors.ts";
import { LOG_LINES_MAX } from "../../schema/core/wire/limits.ts";
import type { RunEvent } from "../../schema/core/wire/http.ts";
import type { ExecutionFact, Outcome } from "../runtime/execution.ts";
import { utf8Bytes } from "../runtime/utf8.ts";
import { LINES_PAGE_MAX, pageOf } from "./page.ts";
import { RunDebts } from "./run-debts.ts";
import type { LogLine, LogPage, RunSpec, RunView } from "./run-spec.ts";

export const RUN_FORMAT = 2;
/** Events of a run: at this many it is stopped with `too_many_steps`. */
export const RUN_EVENTS_MAX = 100_000;

type Status = RunView["status"];
type Row = {
  spec: string;
  status: Status;
  created_at_ms: number;
  deadline_at_ms: number;
  finished_at_ms: number | null;
  attempts: number;
  outcome: string | null;
};
const OWN_ROWS = `
  CREATE TABLE run_input (one INTEGER PRIMARY KEY CHECK (one = 1), json TEXT NOT NULL);
  CREATE TABLE run_outcome (one INTEGER PRIMARY KEY CHECK (one = 1), json TEXT NOT NULL);
`;
export type StoredRun = {
  readonly spec: Omit<RunSpec, "input">;
  readonly status: Status;
  readonly created_at_ms: number;
  readonly deadline_at_ms: number;
  readonly finished_at_ms: number | null;
  readonly attempts: number;
  readonly outcome: Outcome | undefined;
};
/** `Omit` over each member of the union. */
type Unnumbered<T> = T extends unknown ? Omit<T, "seq"> : never;

export class RunLog {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  /** Nothing is written for a run that does not exist: a wrong id leaves no object behind. */
  get exists(): boolean {
    return this.#sql.exec("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'run'").toArray().length > 0;
  }

  /** What an earlier version stored is laid out as this one does. In a transaction, before anything else is asked. */
  upgrade(): void {
    if (!this.exists) return;
    const format = Number(this.#sql.exec<{ value: string }>("SELECT value FROM meta WHERE key = 'format'").one().value);
    if (format === RUN_FORMAT) return;
    if (format !== 1) throw new Error(`the run has format ${format}; this version reads ${RUN_FORMAT} and 1`);
    const row = this.#sql.exec<{ spec: string; outcome: string | null }>("SELECT spec, outcome FROM run").one();
    const { input, ...spec } = JSON.parse(row.spec) as RunSpec;
    this.#sql.exec(OWN_ROWS);
    this.#sql.exec("INSERT INTO run_input VALUES (1, ?)", input);
    if (row.outcome !== null) this.#sql.exec("INSERT INTO run_outcome VALUES (1, ?)", row.outcome);
    this.#sql.exec("UPDATE run SET spec = ?", JSON.stringify(spec));
    this.#sql.exec("ALTER TABLE run DROP COLUMN outcome");
    this.#sql.exec("UPDATE meta SET value = ? WHERE key = 'format'", String(RUN_FORMAT));
  }

  create({ input, ...spec }: RunSpec, now_ms: number, deadline_at_ms: number): void {
    this.#sql.exec(`
      CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
      CREATE TABLE run (
        one INTEGER PRIMARY KEY CHECK (one = 1), spec TEXT NOT NULL, status TEXT NOT NULL, created_at_ms INTEGER NOT NULL,
        deadline_at_ms INTEGER NOT NULL, finished_at_ms INTEGER, attempts INTEGER NOT NULL
      );
      CREATE TABLE events (seq INTEGER PRIMARY KEY, type TEXT NOT NULL, body TEXT NOT NULL);
      CREATE TABLE logs (seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, level TEXT NOT NULL, text TEXT NOT NULL);
    `);
    this.#sql.exec(OWN_ROWS);
    RunDebts.createTables(this.#sql);
    this.#sql.exec("INSERT INTO meta VALUES ('format', ?), ('logs_dropped', '0')", String(RUN_FORMAT));
    this.#sql.exec("INSERT INTO run VALUES (1, ?, 'running', ?, ?, NULL, 0)", JSON.stringify(spec), now_ms, deadline_at_ms);
    this.#sql.exec("INSERT INTO run_input VALUES (1, ?)", input);
    this.#event({ type: "run.started", run: spec.run });
  }

  /** In the transaction that creates the run anew. */
  erase(): void {
    for (const table of ["meta", "run", "run_input", "run_outcome", "events", "logs", "parent_untold", "usage_outbox"])
      this.#sql.exec(`DROP TABLE ${table}`);
  }

  read(): StoredRun {
    const row = this.#sql
      .exec<Row>(
        `SELECT spec, status, created_at_ms, deadline_at_ms, finished_at_ms, attempts, (SELECT json FROM run_outcome) AS outcome FROM run`,
      )
      .one();
    return {
      ...row,
      spec: JSON.parse(row.spec) as StoredRun["spec"],
      outcome: row.outcome === null ? undefined : (JSON.parse(row.outcome) as Outcome),
    };
  }

  /** What it was started with, as JSON text: read once an attempt, for it may be large. */
  input(): string {
    return this.#sql.exec<{ json: string }>("SELECT json FROM run_input").one().json;
  }

  countAttempt(): number {
    return this.#sql.exec<{ attempts: number }>("UPDATE run SET attempts = attempts + 1 RETURNING attempts").one().attempts;
  }

  append(facts: readonly ExecutionFact[]): void {
    for (const fact of facts) {
      if (fact.type === "log") this.#log(fact);
      else this.#event(fact);
    }
  }

  /** The last event and the result; nothing follows. */
  finish(outcome: Outcome, now_ms: number): void {
    this.#event(outcome.status === "done" ? { type: "run.done", output: outcome.output } : { type: "run.failed", error: outcome.error });
    this.#sql.exec("UPDATE run SET status = ?, finished_at_ms = ?", outcome.status, now_ms);
    this.#sql.exec("INSERT INTO run_outcome VALUES (1, ?)", JSON.stringify(outcome));
  }

  eventsAfter(seq: number, limit: number): { seq: number; type: string; body: string }[] {
    const rows = this.#sql.exec<{ seq: number; type: string; body: string }>(
      "SELECT seq, type, body FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
      seq,
      limit,
    );
    return pageOf(rows, (row) => utf8Bytes(row.body));
  }

  get lastSeq(): number {
    return this.#sql.exec<{ seq: number }>("SELECT coalesce(max(seq), 0) AS seq FROM events").one().seq;
  }

  logs(after: number): LogPage {
    const rows = this.#sql.exec<LogLine>(
      "SELECT seq, at_ms, level, text FROM logs WHERE seq > ? ORDER BY seq LIMIT ?",
      after,
      LINES_PAGE_MAX,
    );
    const lines = pageOf(rows, (line) => utf8Bytes(line.text));
    const { dropped } = this.#sql.exec<{ dropped: string }>("SELECT value AS dropped FROM meta WHERE key = 'logs_dropped'").one();
    const { seq } = this.#sql.exec<{ seq: number }>("SELECT coalesce(max(seq), 0) AS seq FROM logs").one();
    return { lines, seq, dropped: Number(dropped) };
  }

  /** Every row of every table of this format: what a stored fixture consists of. */
  dump(): Record<string, unknown[]> {
    const tables = [
      "meta",
      "run",
      "run_input",
      "run_outcome",
      "events",
      "logs",
      "usage_outbox",
      "parent_untold",
      "execution_steps",
      "execution_calls",
      "execution_frames",
      "execution_journal",
    ];
    const present = new Set(
      this.#sql
        .exec<{ name: string }>("SELECT name FROM sqlite_master WHERE type = 'table'")
        .toArray()
        .map((t) => t.name),
    );
    return Object.fromEntries(
      tables.filter((t) => present.has(t)).map((t) => [t, this.#sql.exec(`SELECT * FROM ${t} ORDER BY 1, 2`).toArray()]),
    );
  }

  #event(event: Unnumbered<RunEvent>): void {
    this.#sql.exec("INSERT INTO events (type, body) VALUES (?, ?)", event.type, JSON.stringify(event));
  }

  #log(line: Extract<ExecutionFact, { type: "log" }>): void {
    const count = this.#sql.exec<{ c: number }>("SELECT coalesce(max(seq), 0) AS c FROM logs").one().c;
    if (count >= LOG_LINES_MAX) this.#sql.exec("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'logs_dropped'");
    else this.#sql.exec("INSERT INTO logs (at_ms, level, text) VALUES (?, ?, ?)", line.at_ms, line.level, line.text);
  }
}

export function viewOf(stored: StoredRun): RunView {
  const { spec, outcome } = stored;
  const result: { output?: unknown; error?: Failure } = !outcome
    ? {}
    : outcome.status === "done"
      ? { output: outcome.output }
      : { error: outcome.error };
  return {
    run: spec.run,
    function: spec.identity.function_name,
    version: spec.identity.version,
    status: stored.status,
    created_at_ms: stored.created_at_ms,
    finished_at_ms: stored.finished_at_ms,
    ...result,
  };
}
