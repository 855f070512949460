/** The engine's own rows in its object's SQLite, by program, so that a session keeps its turns apart. */
import { callId, deriveId, type RunId } from "../../schema/core/ids.ts";
import type { ExecutionIdentity } from "./execution.ts";

/** What the row of a `ctx.step` says of its request. */
const GUEST_STEP_REQUEST = "step";

/** The run of a called function is named by its place in the program, so that a replayed caller finds the same run again. */
export const calledRun = ({ program, path_prefix }: Pick<ExecutionIdentity, "program" | "path_prefix">, path: string): RunId =>
  deriveId("run", program, path_prefix + path);

export function createExecutionTables(sql: SqlStorage): void {
  sql.exec(`
    CREATE TABLE IF NOT EXISTS execution_steps (
      program TEXT NOT NULL, path TEXT NOT NULL, request TEXT NOT NULL, status TEXT NOT NULL, value TEXT, error TEXT,
      PRIMARY KEY (program, path)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS execution_calls (
      program TEXT NOT NULL, call TEXT NOT NULL, n INTEGER NOT NULL, ended INTEGER NOT NULL,
      PRIMARY KEY (program, call)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS execution_frames (
      program TEXT NOT NULL, call TEXT NOT NULL, n INTEGER NOT NULL, frame TEXT NOT NULL,
      PRIMARY KEY (program, call, n)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS execution_journal (
      program TEXT NOT NULL, path TEXT NOT NULL,
      PRIMARY KEY (program, path)
    ) WITHOUT ROWID;
  `);
}

/**
 * Once an outcome is durable its replay is never needed again. Call it in the transaction that stores the outcome. Answers with the
 * runs of the functions that it called and never heard the end of, also those that an earlier life of the object called: whoever
 * stores the outcome stops them (children.ts).
 */
export function forgetExecution(sql: SqlStorage, { program, path_prefix }: Pick<ExecutionIdentity, "program" | "path_prefix">): RunId[] {
  const called: RunId[] = [];
  const chats = new Set<string>();
  for (const { call } of sql.exec<{ call: string }>("SELECT call FROM execution_calls WHERE program = ?", program)) chats.add(call);
  const open = sql.exec<{ path: string }>(
    "SELECT path FROM execution_steps WHERE program = ? AND status = 'started' AND request <> ?",
    program,
    GUEST_STEP_REQUEST,
  );
  for (const { path } of open) {
    // A row does not say what its step does. The run of one that called nothing does not exist, and to stop it is to do nothing.
    if (!chats.has(callId(program, path_prefix + path))) called.push(calledRun({ program, path_prefix }, path));
  }
  for (const table of ["execution_steps", "execution_calls", "execution_frames", "execution_journal"]) {
    sql.exec(`DELETE FROM ${table} WHERE program = ?`, program);
  }
  return called;
}
