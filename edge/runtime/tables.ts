/** The engine's own rows in its object's SQLite, by program, so that a session keeps its turns apart. */
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

/** Once an outcome is durable its replay is never needed again. Call it in the transaction that stores the outcome. */
export function forgetExecution(sql: SqlStorage, program: string): void {
  for (const table of ["execution_steps", "execution_calls", "execution_frames", "execution_journal"]) {
    sql.exec(`DELETE FROM ${table} WHERE program = ?`, program);
  }
}
