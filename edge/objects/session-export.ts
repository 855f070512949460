/** A session as data: what is committed as a fixture, so that later versions prove that they open what this one wrote. */
import { createSessionTables, SESSION_FORMAT, type SessionIdentity } from "./session-store.ts";

/** Rows of one table; a fixture is small, and a session that is larger is refused rather than cut. */
const EXPORT_ROWS_MAX = 20_000;
const TABLES = ["session_meta", "session_log", "session_messages", "session_turns", "session_lines"] as const;

type Cell = string | number | null;
export type SessionExport = {
  readonly format: number;
  readonly session: string;
  readonly tables: Readonly<Record<string, readonly Readonly<Record<string, Cell>>[]>>;
};

export function exportSession(sql: SqlStorage, identity: SessionIdentity): SessionExport {
  const tables: Record<string, Record<string, Cell>[]> = {};
  for (const table of TABLES) {
    const rows = sql.exec<Record<string, Cell>>(`SELECT * FROM ${table} LIMIT ${EXPORT_ROWS_MAX + 1}`).toArray();
    if (rows.length > EXPORT_ROWS_MAX) throw new RangeError(`${table} has more than ${EXPORT_ROWS_MAX} rows`);
    tables[table] = rows;
  }
  return { format: SESSION_FORMAT, session: identity.session, tables };
}

/** Puts an exported session into an empty object, inside a transaction. */
export function importSession(sql: SqlStorage, exported: SessionExport): void {
  createSessionTables(sql);
  for (const [table, rows] of Object.entries(exported.tables)) {
    if (!TABLES.some((known) => known === table)) throw new Error(`no table ${table}`);
    for (const row of rows) {
      const columns = Object.keys(row);
      const places = columns.map(() => "?").join(", ");
      sql.exec(`INSERT INTO ${table} (${columns.join(", ")}) VALUES (${places})`, ...Object.values(row));
    }
  }
}
