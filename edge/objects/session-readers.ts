/**
 * The sockets of a session. Each is a reader of the log with a place of its own, kept in the socket's attachment, so that it
 * survives hibernation. A reader pulls: whenever it may go on (something was appended, an ack came, it said hello) it reads pages
 * of the log after its place and sends them. Replay and live events are therefore one thing, and there is no join between them at
 * which an event could be lost or doubled (I4).
 *
 * A reader stops when SESSION_UNACKED_EVENTS_MAX events or SESSION_UNACKED_BYTES_MAX bytes are unacknowledged, and goes on at the
 * next ack. One that acknowledges nothing while SESSION_UNACKED_EVENTS_MAX events are appended is closed with 4008: workerd does
 * not tell how much a socket still holds, so that acknowledgements alone bound the memory of a slow reader.
 */
import { failure, type Failure } from "../../schema/core/errors.ts";
import { SESSION_UNACKED_EVENTS_MAX } from "../../schema/core/wire/limits.ts";
import type { SessionToClient } from "../../schema/core/wire/session.ts";
import type { TokenClaims } from "../../schema/core/wire/token.ts";
import { CLOSE_REVOKED_KEY, type SessionKeys } from "./session-keys.ts";
import { SESSION_UNACKED_BYTES_MAX } from "./session-limits.ts";
import type { SessionLog } from "./session-log.ts";

export const CLOSE_SLOW_READER = 4008;

/** Who was let in by the door. */
export type SocketCaller = { readonly claims: TokenClaims; readonly expires_at_ms?: number };

export type Reader = {
  readonly socket_id: string;
  readonly caller: TokenClaims;
  /** When the caller's key expires; left out: never. */
  readonly expires_at_ms?: number;
  readonly opened_at_ms: number;
  /** Up to here the socket's open time is in the usage outbox. */
  metered_at_ms: number;
  /** Said hello. */
  greeted: boolean;
  sent: number;
  acked: number;
  unacked_bytes: number;
  /** The end of the log when the reader last gave a sign of life. */
  log_seq_at_ack: number;
};

export type ReaderLimits = { readonly unacked_events_max: number; readonly unacked_bytes_max: number };
const LIMITS: ReaderLimits = { unacked_events_max: SESSION_UNACKED_EVENTS_MAX, unacked_bytes_max: SESSION_UNACKED_BYTES_MAX };

export class SessionReaders {
  readonly #ctx: DurableObjectState;
  readonly #log: SessionLog;
  readonly #session: string;
  readonly #keys: SessionKeys;
  readonly #asking = new Set<string>();
  readonly #limits: ReaderLimits;
  #look_pending = false;

  constructor(ctx: DurableObjectState, log: SessionLog, session: string, keys: SessionKeys, limits = LIMITS) {
    this.#ctx = ctx;
    this.#log = log;
    this.#session = session;
    this.#keys = keys;
    this.#limits = limits;
  }

  accept(socket: WebSocket, socket_id: string, let_in: SocketCaller, now_ms: number): void {
    this.#ctx.acceptWebSocket(socket);
    const { claims, expires_at_ms } = let_in;
    write(socket, {
      socket_id,
      caller: claims,
      ...(expires_at_ms === undefined ? {} : { expires_at_ms }),
      opened_at_ms: now_ms,
      metered_at_ms: now_ms,
      greeted: false,
      sent: 0,
      acked: 0,
      unacked_bytes: 0,
      log_seq_at_ack: 0,
    });
  }

  /** After an append, also one whose transaction is still open: readers look when it is over, and see it only if it was kept. */
  look(): void {
    if (this.#look_pending) return;
    this.#look_pending = true;
    queueMicrotask(() => {
      this.#look_pending = false;
      for (const socket of this.#ctx.getWebSockets()) this.#pump(socket);
    });
  }

  hello(socket: WebSocket, resume_from: number): void {
    const reader = readerOf(socket);
    if (reader.greeted) return this.refuse(socket, failure("invalid_request", "hello was said already"));
    const { last_seq, first_seq } = this.#log;
    if (resume_from > last_seq) {
      return this.refuse(
        socket,
        failure("invalid_request", `the session's last event is ${last_seq}: nothing beyond it was ever sent`, "resume_from"),
      );
    }
    const truncated = resume_from + 1 < first_seq;
    const place = truncated ? first_seq - 1 : resume_from;
    write(socket, { ...reader, greeted: true, sent: place, acked: place, log_seq_at_ack: last_seq });
    say(socket, { type: "welcome", session: this.#session, seq: last_seq, ...(truncated ? { truncated_before: first_seq } : {}) });
    this.#pump(socket);
  }

  ack(socket: WebSocket, seq: number): void {
    const reader = readerOf(socket);
    if (seq > reader.sent) return this.refuse(socket, failure("invalid_request", `nothing beyond ${reader.sent} was sent`, "seq"));
    if (seq <= reader.acked) return;
    const unacked_bytes = this.#log.bytesBetween(seq, reader.sent);
    write(socket, { ...reader, acked: seq, unacked_bytes, log_seq_at_ack: this.#log.last_seq });
    this.#pump(socket);
  }

  refuse(socket: WebSocket, error: Failure, id?: string): void {
    say(socket, { type: "refused", error, ...(id === undefined ? {} : { id }) });
  }

  #pump(socket: WebSocket): void {
    const reader = readerOf(socket);
    if (!reader.greeted || socket.readyState !== WebSocket.OPEN) return;
    const { last_seq } = this.#log;
    if (reader.sent >= last_seq) return;
    const good = this.#keys.known(reader.caller.key, Date.now());
    if (good === undefined) return this.#ask(reader.caller.key);
    if (!good) return this.#turnOut(socket);
    if (reader.sent > reader.acked && last_seq - reader.log_seq_at_ack > this.#limits.unacked_events_max) {
      return close(socket, CLOSE_SLOW_READER, "slow_reader: acknowledge, then resume");
    }
    while (reader.sent < last_seq && this.#mayBeSent(reader)) {
      for (const event of this.#log.page(reader.sent)) {
        if (!this.#mayBeSent(reader)) break;
        // The log was truncated past a reader that had stopped: only a new welcome can say so.
        if (event.seq !== reader.sent + 1) return close(socket, CLOSE_SLOW_READER, "slow_reader: the log went on, resume");
        if (!sendText(socket, event.json)) return;
        reader.sent = event.seq;
        reader.unacked_bytes += event.json.length;
      }
    }
    write(socket, reader);
  }

  /** Closes the sockets whose key is no longer good. */
  async watchKeys(): Promise<void> {
    for (const socket of this.#ctx.getWebSockets()) {
      if (!(await this.#keys.isGood(readerOf(socket).caller.key, Date.now()))) this.#turnOut(socket);
    }
  }

  /** Closes the sockets that this key opened. */
  turnOut(key: string): void {
    for (const socket of this.#ctx.getWebSockets()) if (readerOf(socket).caller.key === key) this.#turnOut(socket);
  }

  /** Nothing is told before the key was looked at; whoever reads with it goes on then. */
  #ask(key: string): void {
    if (this.#asking.has(key)) return;
    this.#asking.add(key);
    this.#ctx.waitUntil(
      this.#keys.isGood(key, Date.now()).then(() => {
        this.#asking.delete(key);
        this.look();
      }),
    );
  }

  #turnOut(socket: WebSocket): void {
    this.refuse(socket, failure("revoked_key"));
    close(socket, CLOSE_REVOKED_KEY, "revoked_key");
  }

  #mayBeSent(reader: Reader): boolean {
    const { unacked_events_max, unacked_bytes_max } = this.#limits;
    return reader.sent - reader.acked < unacked_events_max && reader.unacked_bytes < unacked_bytes_max;
  }
}

export const readerOf = (socket: WebSocket): Reader => socket.deserializeAttachment() as Reader;

export function write(socket: WebSocket, reader: Reader): void {
  socket.serializeAttachment(reader);
}

export function close(socket: WebSocket, code: number, reason: string): void {
  try {
    socket.close(code, reason);
  } catch {
    // The other end closed it first.
  }
}

function say(socket: WebSocket, frame: SessionToClient): void {
  sendText(socket, JSON.stringify(frame));
}

/** False: the socket is gone; its close event comes, and the client resumes. */
function sendText(socket: WebSocket, text: string): boolean {
  try {
    socket.send(text);
    return true;
  } catch {
    return false;
  }
}
