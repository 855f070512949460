/**
 * A long-lived conversation with an agent, as a Durable Object named `<tenant>/<session>`: the log of its events, the sockets that
 * read it, and the turns that write it (schema/core/wire/session.ts). Connections are disposable; the log is the truth (D7).
 *
 * While nothing is happening the object hibernates with its sockets open: pings are answered by the platform, readers' places are
 * in their sockets' attachments, and everything else is in SQLite. While a turn runs an alarm is armed, so that a turn whose object
 * died is found and continued even if no client ever comes back.
 *
 * One message at a time: a second one during a turn is refused with `turn_in_progress`. That is the only answer to double texting;
 * queueing the second message, and interrupting the turn for it, are not there: a client cancels, or waits.
 */
import { DurableObject } from "cloudflare:workers";
import { failure } from "../../schema/core/errors.ts";
import { asId, type ProgramId, type RunId } from "../../schema/core/ids.ts";
import { SESSION_PROTOCOL, type SessionFromClient } from "../../schema/core/wire/session.ts";
import { KEY_CACHE_MS } from "../door.ts";
import type { UsageEvent } from "../../schema/core/wire/usage.ts";
import type { Env } from "../env.ts";
import { codeOf, type ResolvedFunction } from "../functions.ts";
import { createGatewayClient, type GatewayCall, type GatewayClient } from "../gateway-client.ts";
import {
  createExecution,
  forgetExecution,
  stopCalled,
  type Execution,
  type ExecutionHost,
  type ExecutionSink,
  type Outcome,
} from "../runtime/execution.ts";
import { objectLimits } from "../runtime/object-limits.ts";
import type { Result } from "../runtime/result.ts";
import { SessionEntry } from "./session-entry.ts";
import { exportSession, type SessionExport } from "./session-export.ts";
import { readFrame } from "./session-frames.ts";
import {
  KEYS_IDLE_WATCH_MS,
  KEYS_WATCH_MS,
  SESSION_FRAME_COST_BYTES,
  SESSION_FRAMES_WAITING_BYTES_MAX,
  SESSION_PAGE_EVENTS,
  SESSION_SOCKETS_MAX,
  TURN_WATCH_MS,
} from "./session-limits.ts";
import { CLOSE_REVOKED_KEY, SessionKeys } from "./session-keys.ts";
import { SessionLines, type SessionLinesPage } from "./session-lines.ts";
import { SessionLog } from "./session-log.ts";
import { close, readerOf, SessionReaders, type SocketCaller, write } from "./session-readers.ts";
import { SessionRunner } from "./session-runner.ts";
import { readIdentity, type SessionIdentity, writeIdentity } from "./session-store.ts";
import { SessionTurns, type TurnRow } from "./session-turns.ts";
import { SESSION_TIME_PIECE_MS, socketTime, turnUsage } from "./session-usage.ts";
import { UsageOutbox } from "./usage-outbox.ts";

/** On the request with which the door hands a socket over: who was let in. Only our own Worker reaches an object. */
export const CALLER_HEADER = "x-millrace-caller";
export type { SocketCaller } from "./session-readers.ts";

export type SessionCreated = { readonly kind: "created" | "existed"; readonly identity: SessionIdentity };

const DENIED = failure("capability_denied", "the turn is over");
const OVER = JSON.stringify({ ok: false, error: DENIED });
const OVER_LINE = JSON.stringify({ type: "error", error: DENIED });
const streamOf = (text: string): ReadableStream<Uint8Array> => new Response(text).body ?? new ReadableStream();

const programOf = ({ session }: SessionIdentity, { turn }: TurnRow): ProgramId => asId<"program">(`${session}/${turn}`);

/** Everything that exists only once the session does. */
type Parts = {
  readonly identity: SessionIdentity;
  readonly log: SessionLog;
  readonly lines: SessionLines;
  readonly turns: SessionTurns;
  readonly readers: SessionReaders;
  readonly runner: SessionRunner;
  readonly outbox: UsageOutbox;
};

export class AgentSession extends DurableObject<Env> implements ExecutionHost {
  #parts: Parts | undefined;
  readonly #keys: SessionKeys;
  readonly #entry: SessionEntry;
  /** By socket id: the end of the line of its frames that are being handled. */
  readonly #lines = new Map<string, { waiting_bytes: number; last: Promise<void> }>();
  #gateway: { readonly key: string; readonly client: GatewayClient } | undefined;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#keys = new SessionKeys(env.DB, objectLimits(ctx).connections);
    this.#entry = new SessionEntry(ctx, env);
    ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair("ping", "pong"));
    const identity = readIdentity(ctx.storage.sql);
    if (!identity) return;
    this.#parts = this.#open(identity);
    // Awake again with a turn that another life of this object began.
    if (this.#parts.turns.running()) this.#proceed(this.#parts);
  }

  // ── what the doors ask ──

  create(identity: SessionIdentity): SessionCreated {
    if (this.#parts) return { kind: "existed", identity: this.#parts.identity };
    const { storage } = this.ctx;
    storage.transactionSync(() => writeIdentity(storage.sql, identity));
    this.#parts = this.#open(identity);
    return { kind: "created", identity };
  }

  describe(): SessionIdentity | null {
    return this.#parts?.identity ?? null;
  }

  /** A page of the log as JSON text: `{events, seq, truncated_before?}`. */
  events(after: number): string {
    const { log } = this.#known();
    const { first_seq, last_seq } = log;
    const truncated = after + 1 < first_seq ? `,"truncated_before":${first_seq}` : "";
    const events = log.page(after, SESSION_PAGE_EVENTS).map((event) => event.json);
    return `{"events":[${events.join(",")}],"seq":${last_seq}${truncated}}`;
  }

  /** A page of what its turns logged, for the function's author. */
  logs(after: number): SessionLinesPage {
    return this.#known().lines.page(after);
  }

  /** What a session is made of, for a fixture that later versions must open. */
  export(): SessionExport {
    return exportSession(this.ctx.storage.sql, this.#known().identity);
  }

  /** The upgrade, after the door let the caller in. */
  override async fetch(request: Request): Promise<Response> {
    const parts = this.#known();
    const let_in = JSON.parse(request.headers.get(CALLER_HEADER) ?? "null") as SocketCaller;
    const { key } = let_in.claims;
    const opened = await this.#entry.open(key, () => {
      if (this.ctx.getWebSockets().length >= SESSION_SOCKETS_MAX) return "full";
      const pair = new WebSocketPair();
      parts.readers.accept(pair[1], crypto.randomUUID(), let_in, Date.now());
      return pair[0];
    });
    if (opened === "revoked") return Response.json(failure("revoked_key"), { status: 401 });
    if (opened === "full") {
      this.#entry.closed(key);
      return Response.json(failure("rate_limited"), { status: 429 });
    }
    await this.#arm(parts);
    const offered = request.headers.get("sec-websocket-protocol")?.split(",") ?? [];
    const chosen = offered.some((protocol) => protocol.trim() === SESSION_PROTOCOL);
    return new Response(null, {
      status: 101,
      webSocket: opened,
      ...(chosen ? { headers: { "sec-websocket-protocol": SESSION_PROTOCOL } } : {}),
    });
  }

  /** From the key's own object: the door revoked it. */
  keyRevoked(key: string): void {
    this.#keys.revoked(key);
    this.#parts?.readers.turnOut(key);
  }

  // ── sockets ──

  override async webSocketMessage(socket: WebSocket, data: string | ArrayBuffer): Promise<void> {
    const parts = this.#known();
    this.#meter(parts, socket, SESSION_TIME_PIECE_MS);
    const read = readFrame(data);
    switch (read.kind) {
      case "too_big":
        return close(socket, 1009, "the frame is larger than the limit");
      case "refused":
        return parts.readers.refuse(socket, read.error, read.id);
      case "frame":
        return this.#inOrder(socket, typeof data === "string" ? data.length : data.byteLength, () =>
          this.#handle(parts, socket, read.frame),
        );
    }
  }

  /** The frames of a socket one after the other, as they came: one that waits for the database is not overtaken. */
  async #inOrder(socket: WebSocket, frame_bytes: number, work: () => Promise<void>): Promise<void> {
    const { socket_id } = readerOf(socket);
    const line = this.#lines.get(socket_id) ?? { waiting_bytes: 0, last: Promise.resolve() };
    const bytes = frame_bytes + SESSION_FRAME_COST_BYTES;
    if (line.waiting_bytes + bytes > SESSION_FRAMES_WAITING_BYTES_MAX) return close(socket, 1013, "too many frames at once");
    this.#lines.set(socket_id, line);
    line.waiting_bytes += bytes;
    const mine = line.last.then(async () => {
      if (socket.readyState === WebSocket.OPEN) await work();
    });
    line.last = mine.catch(() => undefined);
    try {
      await mine;
    } finally {
      line.waiting_bytes -= bytes;
      if (line.waiting_bytes === 0) this.#lines.delete(socket_id);
    }
  }

  override async webSocketClose(socket: WebSocket, code: number): Promise<void> {
    this.#left(socket);
    // Answers the client's close; 1005 and 1006 say that there was no code, and may not be sent.
    close(socket, code === 1005 || code === 1006 ? 1000 : code, "");
  }

  override async webSocketError(socket: WebSocket): Promise<void> {
    this.#left(socket);
  }

  #left(socket: WebSocket): void {
    this.#meter(this.#known(), socket, 0);
    this.#entry.closed(readerOf(socket).caller.key, socket);
  }

  async #handle(parts: Parts, socket: WebSocket, frame: SessionFromClient): Promise<void> {
    const { readers, runner } = parts;
    const { key } = readerOf(socket).caller;
    // An acknowledgement does nothing but let the reader go on, who looks at the key for itself.
    if (frame.type !== "ack" && !(await this.#keys.isGood(key, Date.now()))) {
      readers.refuse(socket, failure("revoked_key"), frame.type === "message" ? frame.id : undefined);
      return close(socket, CLOSE_REVOKED_KEY, "revoked_key");
    }
    if (frame.type === "hello") return readers.hello(socket, frame.resume_from);
    if (!readerOf(socket).greeted) return readers.refuse(socket, failure("malformed_frame", "the first frame is hello"));
    switch (frame.type) {
      case "ack":
        return readers.ack(socket, frame.seq);
      case "message":
        return this.#take(parts, socket, frame);
      case "cancel":
        if (!runner.cancel(frame.turn, "the client asked")) readers.refuse(socket, failure("invalid_request", "no such turn is running"));
        return;
    }
  }

  #take(parts: Parts, socket: WebSocket, message: { id: string; text: string }): void {
    const { readers, turns, runner, identity } = parts;
    const { id, text } = message;
    switch (turns.seen(id, text)) {
      case "same":
        return; // Sent again by a client that could not know that it had arrived: its events are in the log.
      case "other_text":
        return readers.refuse(socket, failure("idempotency_mismatch", "this id was another message's", "id"), id);
      case "new":
        break;
    }
    if (turns.running()) return readers.refuse(socket, failure("turn_in_progress"), id);
    const { caller } = readerOf(socket);
    this.ctx.storage.transactionSync(() => runner.begin({ id, text }, caller, Date.now(), identity.config.timeout_ms));
    readers.look();
    this.#proceed(parts);
  }

  // ── turns ──

  /** Starts at once, so that an RPC that woke the object finds its turn; the alarm is armed in the same breath (R1). */
  #proceed(parts: Parts): void {
    const over = parts.runner.proceed();
    const armed = this.#arm(parts);
    this.ctx.waitUntil(
      (async () => {
        await armed;
        await over;
        await this.#arm(parts);
      })(),
    );
  }

  #execute(identity: SessionIdentity, turn: TurnRow, program: ProgramId, sink: ExecutionSink): Execution {
    return createExecution({
      ctx: this.ctx,
      env: this.env,
      host: { binding: "SESSIONS", id: this.ctx.id.toString() },
      identity: {
        tenant: identity.tenant,
        project: identity.project,
        key: turn.caller.key,
        function: identity.function,
        function_name: identity.function_name,
        version: identity.version,
        program,
        session: identity.session,
        agent: identity.function_name,
        path_prefix: "",
        depth: 0,
      },
      code: codeOf(this.env, identity),
      config: identity.config,
      gateway: this.#linkFor(identity, turn.caller.key),
      sink,
      deadline_at_ms: turn.deadline_at_ms,
    });
  }

  /** One link for all turns; another caller's turn gets another, because the gateway is asked in the name of a key. */
  #linkFor(identity: SessionIdentity, key: string): GatewayClient {
    if (this.#gateway?.key === key) return this.#gateway.client;
    this.#gateway?.client.close();
    const { tenant, project, session } = identity;
    const client = createGatewayClient({ env: this.env, link_id: session, claims: { tenant, project, key, scopes: ["infer"] } });
    this.#gateway = { key, client };
    return client;
  }

  // ── the alarm: a watch over the running turn, and the outbox ──

  override async alarm(): Promise<void> {
    const parts = this.#parts;
    if (!parts) return;
    try {
      const now_ms = Date.now();
      const due_ms = parts.outbox.due();
      if (due_ms !== undefined && due_ms <= now_ms) {
        await objectLimits(this.ctx).connections.run(() => parts.outbox.ship(this.env.DB, now_ms));
      }
      await parts.readers.watchKeys();
      for (const socket of this.ctx.getWebSockets()) this.#meter(parts, socket, SESSION_TIME_PIECE_MS);
    } finally {
      // A turn that is being executed here is not started again; one that is not, is.
      this.#proceed(parts);
    }
  }

  async #arm(parts: Parts): Promise<void> {
    const armed_ms = await this.ctx.storage.getAlarm();
    const now_ms = Date.now();
    const due_ms = parts.outbox.due();
    const open = this.ctx.getWebSockets().filter((socket) => socket.readyState === WebSocket.OPEN);
    const watch_ms = parts.turns.running() ? now_ms + (open.length > 0 ? KEYS_WATCH_MS : TURN_WATCH_MS) : Infinity;
    const next_ms = Math.min(
      watch_ms,
      due_ms === undefined ? Infinity : Math.max(due_ms, now_ms),
      // An alarm that is set stays: frames that look at no key must not put the look at them off.
      open.length === 0 ? Infinity : Math.min(armed_ms ?? Infinity, now_ms + KEYS_IDLE_WATCH_MS),
      ...open.map((socket) => Math.max(readerOf(socket).expires_at_ms ?? Infinity, now_ms) + KEY_CACHE_MS),
    );
    if (next_ms === Infinity) await this.ctx.storage.deleteAlarm();
    else await this.ctx.storage.setAlarm(next_ms);
  }

  #meter(parts: Parts, socket: WebSocket, at_least_ms: number): void {
    const reader = readerOf(socket);
    const now_ms = Date.now();
    if (now_ms - reader.metered_at_ms < at_least_ms) return;
    this.ctx.storage.transactionSync(() => parts.outbox.add(socketTime(parts.identity, reader, now_ms)));
    write(socket, { ...reader, metered_at_ms: now_ms });
    this.ctx.waitUntil(this.#arm(parts));
  }

  // ── what guests and called functions ask (ExecutionHost) ──

  async guest(execution: string, request: string): Promise<string> {
    return this.#parts?.runner.byExecution(execution)?.guest(request) ?? OVER;
  }

  async guestStream(execution: string, request: string): Promise<ReadableStream<Uint8Array>> {
    return this.#parts?.runner.byExecution(execution)?.guestStream(request) ?? streamOf(`${OVER_LINE}\n`);
  }

  async relay(program: string, request: GatewayCall): Promise<ReadableStream<Uint8Array>> {
    const active = this.#parts?.runner.byProgram(program);
    if (active) return active.relay(request);
    const error = failure("cancelled", "the turn is over");
    return streamOf(`${JSON.stringify({ type: "refused", call: request.call, n: request.from + 1, error, emitted: 0 })}\n`);
  }

  async cancelRelay(program: string, call: string, reason: string): Promise<void> {
    this.#parts?.runner.byProgram(program)?.cancelRelay(call, reason);
  }

  async childDone(program: string, run: RunId, outcome: Outcome): Promise<void> {
    this.#parts?.runner.byProgram(program)?.childDone(run, outcome);
  }

  async executes(program: string): Promise<boolean> {
    const parts = this.#parts;
    const turn = parts?.turns.running();
    return parts !== undefined && turn !== undefined && programOf(parts.identity, turn) === program;
  }

  async callee(program: string, name: string): Promise<ResolvedFunction | null> {
    return this.#executing(program).callee(name);
  }

  async calleeCode(program: string, version: string): Promise<Result<string>> {
    return this.#executing(program).calleeCode(version);
  }

  #executing(program: string): Execution {
    const execution = this.#parts?.runner.byProgram(program);
    if (!execution) throw new Error("the turn is over");
    return execution;
  }

  async childUsage(events: readonly UsageEvent[]): Promise<boolean> {
    const parts = this.#parts;
    if (!parts || !this.ctx.storage.transactionSync(() => parts.outbox.gather(events, Date.now()))) return false;
    await this.#arm(parts);
    return true;
  }

  // ── parts ──

  #open(identity: SessionIdentity): Parts {
    const { storage } = this.ctx;
    SessionLines.createTable(storage.sql);
    const log = new SessionLog(storage.sql);
    const lines = new SessionLines(storage.sql);
    const turns = new SessionTurns(storage.sql);
    const outbox = new UsageOutbox(storage.sql);
    const readers = new SessionReaders(this.ctx, log, identity.session, this.#keys);
    const runner = new SessionRunner({
      session: identity.session,
      storage,
      log,
      lines,
      turns,
      execute: (turn, program, sink) => this.#execute(identity, turn, program, sink),
      onEnd: (turn, _end, now_ms) => {
        outbox.add(turnUsage(identity, turn, now_ms));
        return forgetExecution(storage.sql, { program: programOf(identity, turn), path_prefix: "" });
      },
      stop: (runs) => {
        const { connections } = objectLimits(this.ctx);
        this.ctx.waitUntil(stopCalled({ env: this.env, connections, runs, reason: "the turn that called it is over" }));
      },
      onChange: () => readers.look(),
    });
    return { identity, log, lines, turns, readers, runner, outbox };
  }

  /** Doors ask `describe` first, and only greeted sessions have sockets: anything else is a bug of ours. */
  #known(): Parts {
    if (!this.#parts) throw new Error("the session does not exist");
    return this.#parts;
  }
}
