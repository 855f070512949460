/**
 * The client's end of a session (schema/core/wire/session.ts): one iterable of events, in order, without gaps and duplicates, over
 * as many sockets as it takes. The socket may die at any time; the client reconnects with a fresh credential, says the last `seq`
 * that it has, and goes on. What its user has consumed is acknowledged, so that a slow user costs bounded memory on both ends.
 *
 *   connecting ──welcome──▶ open ──lost──▶ backing off ──▶ connecting …      closed (by the user, or by a refusal that lasts)
 */
import type { SESSION_PROTOCOL, SessionEvent, SessionFromClient, SessionToClient } from "../../schema/core/wire/session.ts";
import { jitteredBackoff, type Backoff } from "./backoff.ts";
import { MillraceClientError } from "./error.ts";

/** Its type is the protocol's own text: the schemas themselves stay out of a browser's bundle. */
const PROTOCOL: typeof SESSION_PROTOCOL = "millrace.session.v1";
const ACK_EVENTS = 64; // consumed events after which an ack is sent at once
const ACK_MS = 250; // an ack waits at most so long for more
const PING_MS = 20_000; // between pings, which the platform answers without waking the session
const SILENCE_MS_MAX = 45_000; // nothing heard for so long: the socket is half-open and is replaced
const CONNECT_MS_MAX = 15_000; // from dialling to welcome
const QUEUE_ITEMS_MAX = 10_000; // received and not consumed: no new socket is opened until half of them are
const UNCONFIRMED_MAX = 64; // messages sent and not yet in the log: the next `send` is refused

/** The log's beginning is gone: what follows begins at `before`. */
export type Truncated = { readonly type: "truncated"; readonly before: number };
export type SessionItem = SessionEvent | Truncated;
export type SessionStatus = "connecting" | "open" | "backing_off" | "closed";

export type SessionOptions = {
  /** The edge's base URL. */
  readonly url: string;
  readonly session: string;
  /** Asked before every connection, so that each has a fresh credential: a ticket of this session. */
  readonly ticket: () => Promise<string>;
  /** The last `seq` that is known already; 0 for everything. */
  readonly resume_from?: number;
  readonly backoff?: Backoff;
  readonly onStatus?: (status: SessionStatus) => void;
  /** `globalThis.WebSocket` by default, which browsers and Node have. */
  readonly WebSocket?: typeof globalThis.WebSocket;
};

export type SessionConnection = AsyncIterable<SessionItem> & {
  /**
   * Resolves with the message's id when it stands in the session's log; sent again, under the same id, for as long as that is
   * unknown. Rejects when the session refuses it (`turn_in_progress`).
   */
  send(text: string, id?: string): Promise<string>;
  /** Stops the running turn, which then ends with an `error` event. Lost if no socket is open. */
  cancel(turn?: string): void;
  /** The last event received. */
  readonly seq: number;
  readonly status: SessionStatus;
  close(): void;
};

export function openSession(options: SessionOptions): SessionConnection {
  return new Connection(options);
}

type Unconfirmed = { readonly text: string; readonly confirm: (id: string) => void; readonly fail: (error: Error) => void };

class Connection implements SessionConnection {
  readonly #options: SessionOptions;
  readonly #backoff: Backoff;
  readonly #unconfirmed = new Map<string, Unconfirmed>();
  readonly #queue: SessionItem[] = [];
  #wake: (() => void) | undefined;
  #socket: WebSocket | undefined;
  #status: SessionStatus = "connecting";
  #failure: MillraceClientError | undefined;
  #received: number;
  #consumed: number;
  #acked: number;
  #ack_timer: ReturnType<typeof setTimeout> | undefined;
  #pulse: ReturnType<typeof setInterval> | undefined;
  #heard_at_ms = 0;
  #failures = 0;
  #waits_for_user = false;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#backoff = options.backoff ?? jitteredBackoff();
    this.#received = this.#consumed = this.#acked = options.resume_from ?? 0;
    void this.#connect();
  }

  get seq(): number {
    return this.#received;
  }

  get status(): SessionStatus {
    return this.#status;
  }

  send(text: string, id: string = crypto.randomUUID()): Promise<string> {
    if (this.#status === "closed") return Promise.reject(closed());
    if (this.#unconfirmed.size >= UNCONFIRMED_MAX) {
      return Promise.reject(new MillraceClientError({ code: "rate_limited", message: `${UNCONFIRMED_MAX} messages await confirmation` }));
    }
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    this.#unconfirmed.set(id, { text, confirm: resolve, fail: reject });
    this.#say({ type: "message", id, text });
    return promise;
  }

  cancel(turn?: string): void {
    this.#say({ type: "cancel", ...(turn === undefined ? {} : { turn }) });
  }

  close(): void {
    this.#end(undefined);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<SessionItem> {
    for (;;) {
      const item = this.#queue.shift();
      if (item !== undefined) {
        yield item;
        // Here its user has come back for the next: it is consumed.
        if (item.type !== "truncated") this.#consume(item.seq);
      } else if (this.#status === "closed") {
        if (this.#failure) throw this.#failure;
        return;
      } else {
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    }
  }

  // ── the socket ──

  async #connect(): Promise<void> {
    if (this.#status === "closed") return;
    if (this.#queue.length >= QUEUE_ITEMS_MAX) {
      this.#waits_for_user = true;
      return;
    }
    this.#become("connecting");
    let ticket: string;
    try {
      ticket = await this.#options.ticket();
    } catch (error) {
      const lasting = error instanceof MillraceClientError && !error.retryable && error.status > 0 && error.status < 500;
      if (lasting) this.#end(error);
      else this.#retry();
      return;
    }
    if (this.#isClosed()) return;
    const url = new URL(`/v1/sessions/${encodeURIComponent(this.#options.session)}/connect`, this.#options.url);
    url.protocol = url.protocol.replace("http", "ws");
    url.searchParams.set("ticket", ticket);
    const socket = new (this.#options.WebSocket ?? globalThis.WebSocket)(url.toString(), PROTOCOL);
    this.#socket = socket;
    const slow = setTimeout(() => this.#lost(socket), CONNECT_MS_MAX);
    socket.addEventListener("open", () => this.#say({ type: "hello", resume_from: this.#received }));
    socket.addEventListener("message", (event) => {
      if (this.#socket !== socket) return;
      this.#heard_at_ms = performance.now();
      if (event.data === "pong") return;
      const frame = JSON.parse(String(event.data)) as SessionToClient;
      if (frame.type === "welcome") {
        clearTimeout(slow);
        this.#welcomed(socket, frame.truncated_before);
      } else {
        this.#heard(socket, frame);
      }
    });
    const over = () => {
      clearTimeout(slow);
      this.#lost(socket);
    };
    socket.addEventListener("close", over);
    socket.addEventListener("error", over);
  }

  #welcomed(socket: WebSocket, truncated_before: number | undefined): void {
    this.#failures = 0;
    if (truncated_before !== undefined && truncated_before > this.#received + 1) {
      this.#received = truncated_before - 1;
      this.#acked = Math.max(this.#acked, this.#received);
      this.#push({ type: "truncated", before: truncated_before });
    }
    this.#become("open");
    this.#pulse = setInterval(() => {
      if (performance.now() - this.#heard_at_ms > SILENCE_MS_MAX) this.#lost(socket);
      else if (socket.readyState === socket.OPEN) socket.send("ping");
    }, PING_MS);
    // What may have been lost with the last socket; the session knows it by its id if it was not.
    for (const [id, { text }] of this.#unconfirmed) this.#say({ type: "message", id, text });
  }

  #heard(socket: WebSocket, frame: Exclude<SessionToClient, { type: "welcome" }>): void {
    if (frame.type === "refused") {
      const error = new MillraceClientError({ code: frame.error.code, message: frame.error.detail ?? frame.error.code });
      if (frame.id !== undefined) this.#settle(frame.id, error);
      // Hello itself: another would be refused as well.
      else if (this.#status !== "open") this.#end(error);
      return;
    }
    if (frame.seq <= this.#received) return;
    if (frame.seq !== this.#received + 1) return this.#lost(socket);
    this.#received = frame.seq;
    if (frame.type === "message") this.#settle(frame.id);
    this.#push(frame);
  }

  #lost(socket: WebSocket): void {
    if (this.#socket !== socket) return;
    this.#drop();
    if (!this.#isClosed()) this.#retry();
  }

  #retry(): void {
    this.#become("backing_off");
    const delay_ms = this.#backoff(this.#failures);
    this.#failures += 1;
    setTimeout(() => void this.#connect(), delay_ms);
  }

  #drop(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    clearInterval(this.#pulse);
    clearTimeout(this.#ack_timer);
    this.#ack_timer = undefined;
    // A new socket starts from `resume_from`, which acknowledges what was received.
    this.#acked = this.#received;
    socket?.close();
  }

  #end(failure: MillraceClientError | undefined): void {
    if (this.#isClosed()) return;
    this.#failure = failure;
    this.#become("closed");
    this.#drop();
    for (const id of this.#unconfirmed.keys()) this.#settle(id, failure ?? closed());
    this.#wake?.();
  }

  // ── what its user has ──

  #push(item: SessionItem): void {
    this.#queue.push(item);
    this.#wake?.();
  }

  #consume(seq: number): void {
    this.#consumed = seq;
    if (this.#waits_for_user && this.#queue.length < QUEUE_ITEMS_MAX / 2) {
      this.#waits_for_user = false;
      void this.#connect();
    }
    if (seq - this.#acked >= ACK_EVENTS) return this.#ack();
    this.#ack_timer ??= setTimeout(() => this.#ack(), ACK_MS);
  }

  #ack(): void {
    clearTimeout(this.#ack_timer);
    this.#ack_timer = undefined;
    if (this.#status !== "open" || this.#consumed <= this.#acked) return;
    this.#acked = this.#consumed;
    this.#say({ type: "ack", seq: this.#consumed });
  }

  #settle(id: string, error?: Error): void {
    const message = this.#unconfirmed.get(id);
    if (!message) return;
    this.#unconfirmed.delete(id);
    if (error) message.fail(error);
    else message.confirm(id);
  }

  /** Hello goes out as soon as the socket opens; all else after the welcome, and is sent again then if it matters. */
  #say(frame: SessionFromClient): void {
    const socket = this.#socket;
    if (!socket || socket.readyState !== socket.OPEN) return;
    if (frame.type === "hello" || this.#status === "open") socket.send(JSON.stringify(frame));
  }

  #isClosed(): boolean {
    return this.#status === "closed";
  }

  #become(status: SessionStatus): void {
    if (this.#status === status) return;
    this.#status = status;
    this.#options.onStatus?.(status);
  }
}

const closed = () => new MillraceClientError({ code: "closed", message: "the session connection was closed" });
