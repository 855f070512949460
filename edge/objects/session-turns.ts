/**
 * The turns of a session, in its database. At most one is running; its row is what a woken object continues from (D11).
 *
 *   (message) ─▶ running ─▶ done | failed | cancelled
 *
 * A turn's input, with the history that its function sees, is fixed in the row at the start: a replay gets the same (D11).
 */
import { sha256Hex } from "../../schema/core/hash.ts";
import type { TokenClaims } from "../../schema/core/wire/token.ts";
import { SESSION_HISTORY_CHARS_MAX, SESSION_HISTORY_TURNS_MAX, SESSION_MESSAGES_REMEMBERED_MAX } from "./session-limits.ts";

export type TurnRow = {
  readonly turn: string;
  readonly message: string;
  /** Whose key began it: the gateway is asked in its name. */
  readonly caller: TokenClaims;
  readonly input: unknown;
  readonly attempts: number;
  readonly started_at_ms: number;
  readonly deadline_at_ms: number;
  readonly cancel_reason: string | null;
};
export type TurnEnd = "done" | "failed" | "cancelled";
export type MessageSeen = "new" | "same" | "other_text";

type HistoryEntry = { role: "user" | "assistant"; content: string };

export class SessionTurns {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  running(): TurnRow | undefined {
    const [row] = this.#sql
      .exec<Record<string, string | number | null>>("SELECT * FROM session_turns WHERE state = 'running' ORDER BY number DESC LIMIT 1")
      .toArray();
    if (!row) return undefined;
    return {
      turn: String(row["turn"]),
      message: String(row["message"]),
      caller: JSON.parse(String(row["caller"])) as TokenClaims,
      input: JSON.parse(String(row["input"])),
      attempts: Number(row["attempts"]),
      started_at_ms: Number(row["started_at_ms"]),
      deadline_at_ms: Number(row["deadline_at_ms"]),
      cancel_reason: row["cancel_reason"] === null ? null : String(row["cancel_reason"]),
    };
  }

  /** Whether a message with this id was taken before; the text decides whether it is the same message. */
  seen(id: string, text: string): MessageSeen {
    const [row] = this.#sql.exec<{ text_hash: string }>("SELECT text_hash FROM session_messages WHERE id = ?", id).toArray();
    if (!row) return "new";
    return row.text_hash === sha256Hex(text) ? "same" : "other_text";
  }

  /** Inside a transaction. */
  begin(message: { id: string; text: string }, caller: TokenClaims, now_ms: number, timeout_ms: number): { turn: string } {
    const { number } = this.#sql.exec<{ number: number }>("SELECT coalesce(max(number), 0) + 1 AS number FROM session_turns").one();
    const turn = `t${number}`;
    const input = JSON.stringify({ message: message.text, history: this.#history() });
    this.#sql.exec("INSERT INTO session_messages (id, text_hash) VALUES (?, ?)", message.id, sha256Hex(message.text));
    this.#sql.exec(
      "DELETE FROM session_messages WHERE number <= (SELECT max(number) FROM session_messages) - ?",
      SESSION_MESSAGES_REMEMBERED_MAX,
    );
    this.#sql.exec(
      `INSERT INTO session_turns (number, turn, message, text, caller, input, state, attempts, started_at_ms, deadline_at_ms)
       VALUES (?, ?, ?, ?, ?, ?, 'running', 0, ?, ?)`,
      number,
      turn,
      message.id,
      message.text.slice(0, SESSION_HISTORY_CHARS_MAX),
      JSON.stringify(caller),
      input,
      now_ms,
      now_ms + timeout_ms,
    );
    // Only turns that may still be shown to a function keep their text; what happened is in the log.
    this.#sql.exec("DELETE FROM session_turns WHERE number <= ? AND state <> 'running'", number - 1 - SESSION_HISTORY_TURNS_MAX);
    return { turn };
  }

  /** Counts one more start, and says which it is. */
  attempt(turn: string): number {
    return this.#sql
      .exec<{ attempts: number }>("UPDATE session_turns SET attempts = attempts + 1 WHERE turn = ? RETURNING attempts", turn)
      .one().attempts;
  }

  requestCancel(turn: string, reason: string): void {
    this.#sql.exec("UPDATE session_turns SET cancel_reason = coalesce(cancel_reason, ?) WHERE turn = ?", reason, turn);
  }

  /** Some of the turn's answer is in the log. */
  markPartial(turn: string): void {
    this.#sql.exec("UPDATE session_turns SET partial = 1 WHERE turn = ? AND partial = 0", turn);
  }

  isPartial(turn: string): boolean {
    return this.#sql.exec("SELECT 1 FROM session_turns WHERE turn = ? AND partial = 1", turn).toArray().length > 0;
  }

  /** Inside a transaction. False: it had ended already. */
  end(turn: string, end: TurnEnd, output?: unknown): boolean {
    const text = typeof output === "string" ? output : JSON.stringify(output ?? null);
    const reply = end === "done" ? text.slice(0, SESSION_HISTORY_CHARS_MAX) : null;
    // The input is large and is read no more.
    const changed = this.#sql.exec(
      "UPDATE session_turns SET state = ?, reply = ?, input = 'null' WHERE turn = ? AND state = 'running' RETURNING turn",
      end,
      reply,
      turn,
    );
    return changed.toArray().length > 0;
  }

  /** The latest finished turns as chat messages, oldest first, within the limits; whole turns only. */
  #history(): HistoryEntry[] {
    const rows = this.#sql
      .exec<{ text: string; reply: string }>(
        "SELECT text, reply FROM session_turns WHERE state = 'done' ORDER BY number DESC LIMIT ?",
        SESSION_HISTORY_TURNS_MAX,
      )
      .toArray();
    const history: HistoryEntry[] = [];
    let chars = 0;
    for (const { text, reply } of rows) {
      chars += text.length + reply.length;
      if (chars > SESSION_HISTORY_CHARS_MAX) break;
      history.unshift({ role: "user", content: text }, { role: "assistant", content: reply });
    }
    return history;
  }
}
