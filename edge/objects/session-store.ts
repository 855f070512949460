/**
 * What a session is: stored once when it is created, with the format of everything in the object's database. An object without
 * it is no session, and probing an id leaves nothing behind.
 */
import type { FunctionId, ProjectId, SessionId, TenantId, VersionId } from "../../schema/core/ids.ts";
import type { FunctionConfig } from "../runtime/execution.ts";
import { createExecutionTables } from "../runtime/tables.ts";
import { SessionLines } from "./session-lines.ts";
import { UsageOutbox } from "./usage-outbox.ts";

/** Later versions of this code upgrade what has an older format, or refuse what has a newer one. */
export const SESSION_FORMAT = 1;

export type SessionIdentity = {
  readonly session: SessionId;
  readonly tenant: TenantId;
  readonly project: ProjectId;
  readonly function: FunctionId;
  readonly function_name: string;
  /** Fixed for the session's life: a deploy does not change a conversation under its user. */
  readonly version: VersionId;
  readonly code_hash: string;
  readonly config_hash: string;
  readonly config: FunctionConfig;
  readonly created_at_ms: number;
  /** The hash of what was asked for, which tells a repeated Idempotency-Key from a reused one. Older sessions have none. */
  readonly request?: string;
};

const SCHEMA = [
  "CREATE TABLE session_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
  // `body` is the event without seq and at_ms, as JSON text.
  "CREATE TABLE session_log (seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, type TEXT NOT NULL, turn TEXT, body TEXT NOT NULL)",
  "CREATE TABLE session_messages (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text_hash TEXT NOT NULL)",
  `CREATE TABLE session_turns (number INTEGER PRIMARY KEY, turn TEXT NOT NULL UNIQUE, message TEXT NOT NULL, text TEXT NOT NULL,
    caller TEXT NOT NULL, input TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL, started_at_ms INTEGER NOT NULL,
    deadline_at_ms INTEGER NOT NULL, cancel_reason TEXT, partial INTEGER NOT NULL DEFAULT 0, reply TEXT)`,
];

/** The identity, or null where no session was created. Throws on a format that this code does not know. */
export function readIdentity(sql: SqlStorage): SessionIdentity | null {
  const [table] = sql.exec("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'session_meta'").toArray();
  if (table === undefined) return null;
  const meta = new Map(
    sql
      .exec<{ key: string; value: string }>("SELECT key, value FROM session_meta")
      .toArray()
      .map((row) => [row.key, row.value]),
  );
  const format = Number(meta.get("format"));
  if (format !== SESSION_FORMAT) throw new Error(`the session has format ${format}; this version reads ${SESSION_FORMAT}`);
  const identity = meta.get("identity");
  return identity === undefined ? null : (JSON.parse(identity) as SessionIdentity);
}

/** Inside a transaction, in an empty database. */
export function createSessionTables(sql: SqlStorage): void {
  for (const statement of SCHEMA) sql.exec(statement);
  SessionLines.createTable(sql);
  UsageOutbox.createTable(sql);
  createExecutionTables(sql);
}

/** Inside a transaction. */
export function writeIdentity(sql: SqlStorage, identity: SessionIdentity): void {
  createSessionTables(sql);
  sql.exec("INSERT INTO session_meta (key, value) VALUES ('format', ?), ('identity', ?)", String(SESSION_FORMAT), JSON.stringify(identity));
}
