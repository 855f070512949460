/**
 * The session's log (I4): `seq` counts from 1 without gaps, because it is the row's key and rows go only from the front. Every
 * reader reads from here and nowhere else, so that nothing can be seen before it is stored.
 */
import { SESSION_LOG_EVENTS_MAX } from "../../schema/core/wire/limits.ts";
import type { SessionEvent } from "../../schema/core/wire/session.ts";
import { utf8Bytes, utf8FitsIn } from "../runtime/utf8.ts";
import { pageOf } from "./page.ts";
import { SESSION_EVENT_BYTES_MAX, SESSION_PAGE_EVENTS } from "./session-limits.ts";

type Body<Event> = Event extends SessionEvent ? Omit<Event, "seq" | "at_ms"> : never;
/** An event before the log gives it its number and time. */
export type SessionEventBody = Body<SessionEvent>;

/** An event as it goes over a socket. */
export type LoggedEvent = { readonly seq: number; readonly json: string };

export class SessionLog {
  readonly #sql: SqlStorage;
  readonly #events_max: number;

  constructor(sql: SqlStorage, events_max = SESSION_LOG_EVENTS_MAX) {
    this.#sql = sql;
    this.#events_max = events_max;
  }

  /** Inside a transaction, with whatever else changed. */
  append(events: readonly SessionEventBody[], at_ms: number): void {
    for (const event of events) {
      this.#sql.exec(
        "INSERT INTO session_log (at_ms, type, turn, body) VALUES (?, ?, ?, ?)",
        at_ms,
        event.type,
        "turn" in event ? (event.turn ?? null) : null,
        bodyOf(event),
      );
    }
    this.#sql.exec("DELETE FROM session_log WHERE seq <= (SELECT max(seq) FROM session_log) - ?", this.#events_max);
  }

  /** The number of the last event; 0 for none. */
  get last_seq(): number {
    return this.#number("SELECT coalesce(max(seq), 0) AS n FROM session_log");
  }

  /** The number of the oldest event still there; 1 where there is none. */
  get first_seq(): number {
    return this.#number("SELECT coalesce(min(seq), 1) AS n FROM session_log");
  }

  /** At most so many events, and what one answer holds of them. */
  page(after: number, limit = SESSION_PAGE_EVENTS): LoggedEvent[] {
    const rows = this.#sql.exec<{ seq: number; at_ms: number; body: string }>(
      "SELECT seq, at_ms, body FROM session_log WHERE seq > ? ORDER BY seq LIMIT ?",
      after,
      limit,
    );
    return pageOf(rows, (row) => utf8Bytes(row.body)).map(({ seq, at_ms, body }) => ({
      seq,
      json: `{"seq":${seq},"at_ms":${at_ms},${body.slice(1)}`,
    }));
  }

  bytesBetween(after: number, through: number): number {
    return this.#number("SELECT coalesce(sum(length(body)), 0) AS n FROM session_log WHERE seq > ? AND seq <= ?", after, through);
  }

  #number(query: string, ...parameters: number[]): number {
    return this.#sql.exec<{ n: number }>(query, ...parameters).one().n;
  }
}

function bodyOf(event: SessionEventBody): string {
  const body = JSON.stringify(event);
  if (utf8FitsIn(body, SESSION_EVENT_BYTES_MAX)) return body;
  const omitted = `omitted: larger than ${SESSION_EVENT_BYTES_MAX} bytes`;
  if (event.type === "event") return JSON.stringify({ ...event, data: { omitted } });
  if (event.type === "turn.done") return JSON.stringify({ ...event, output: { omitted } });
  // The others are bounded where they come from: a message by its frame, a delta by the link's frame.
  return body;
}
