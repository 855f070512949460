/**
 * A peer that speaks the gateway's end of the link exactly (schema/core/wire/link.ts), for tests of the edge in which the real
 * gateway is not wanted. It verifies tokens, keeps a call's numbered output, attaches, coalesces beyond the credit, and can be
 * told to die in every way that a gateway can.
 *
 * What a call answers is scripted by `scripts`, or by the call itself: a last message whose text is `{"peer": {…PeerScript}}`.
 * Code inside workerd, which cannot reach this process's memory, steers it by `POST /control` and reads `GET /control?tenant=…`.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { jwtVerify } from "jose";
import { WebSocketServer, type RawData, type WebSocket } from "ws";
import { z } from "zod";
import { failure } from "../../schema/core/errors.ts";
import { LINK_CREDIT_FRAMES, LINK_FRAME_BYTES_MAX } from "../../schema/core/wire/limits.ts";
import { LINK_PROTOCOL, linkFromEdge, wireFailure, type LinkFromEdge, type LinkFromGateway } from "../../schema/core/wire/link.ts";
import { TOKEN_AUDIENCE, TOKEN_ISSUER } from "../../schema/core/wire/token.ts";

export const peerScript = z.object({
  /** The answer: as many numbered words, one token each. */
  words: z.int().min(0).default(20),
  /** Between two words; 0: as fast as the event loop turns. */
  interval_ms: z.number().min(0).default(0),
  /** The connection is destroyed when this many frames of the call have been sent on it; one entry a connection, in order. */
  kill_after: z.array(z.int().min(1)).default([]),
  /** The peer forgets everything (as a gateway that restarted) when the call has sent so many frames. */
  restart_after: z.int().min(1).optional(),
  /** The call ends with this error after its words. */
  refuse: wireFailure.optional(),
  /** Announce this place in a queue first. */
  queued: z.int().optional(),
  /** Accept the call and never say more, except to a cancel. */
  hang: z.boolean().default(false),
});
export type PeerScript = z.infer<typeof peerScript>;

/** Only what belongs to this tenant is meant, so that tests that run at the same time leave each other alone; without it: all. */
const tenant = z.string().optional();
export const peerControl = z.discriminatedUnion("do", [
  /** Forget all calls and drop all connections, as a gateway killed and started again. */
  z.object({ do: z.literal("restart"), tenant }),
  z.object({ do: z.literal("kill_connections"), tenant }),
  /** Refuse upgrades with this status; 0 accepts again. */
  z.object({ do: z.literal("refuse_upgrades"), status: z.int(), tenant }),
  /** Read and answer nothing, on connections open now: a half-open socket. */
  z.object({ do: z.literal("silence"), tenant }),
  /** What a call without a script of its own answers. */
  z.object({ do: z.literal("script"), script: peerScript, tenant }),
]);
export type PeerControl = z.infer<typeof peerControl>;

export type PeerCallState = {
  /** How often it was begun from nothing: more than one after a restart. */
  runs: number;
  attached: number;
  frames: number;
  credited: number;
  cancelled: string | null;
  ended: boolean;
};
export type PeerState = { connections_open: number; connections_total: number; calls: Record<string, PeerCallState>; tenants: string[] };

export type LinkPeer = {
  readonly url: string;
  readonly cell_secret: string;
  control(command: PeerControl): void;
  state(tenant?: string): PeerState;
  close(): Promise<void>;
};

/** The name under which something is set for every tenant that has no setting of its own. */
const ALL = "*";
const covers = (tenant: string, of: string): boolean => tenant === ALL || tenant === of;

type CallFrame = Extract<LinkFromEdge, { type: "call" }>;
type Numbered = Extract<LinkFromGateway, { type: "token" | "done" | "refused" }>;
type Connection = { socket: WebSocket; tenant: string; silent: boolean; link: string };

class PeerCall {
  readonly state: PeerCallState = { runs: 1, attached: 0, frames: 0, credited: 0, cancelled: null, ended: false };
  readonly output: Numbered[] = [];
  readonly script: PeerScript;
  readonly tenant: string;
  readonly #id: string;
  readonly #onFrame: (frame: Numbered) => void;
  connection: Connection | undefined;
  sent_on_connection = 0;
  #words_made = 0;
  #held: string[] = [];
  #timer: NodeJS.Timeout | NodeJS.Immediate | undefined;

  constructor(id: string, tenant: string, script: PeerScript, onFrame: (frame: Numbered) => void) {
    this.#id = id;
    this.tenant = tenant;
    this.script = script;
    this.#onFrame = onFrame;
    if (!script.hang) this.#next();
  }

  credit(n: number): void {
    this.state.credited = Math.max(this.state.credited, n);
    this.#flush();
  }

  cancel(reason: string): void {
    if (this.state.ended) return;
    this.state.cancelled = reason;
    this.#end({ type: "refused", call: this.#id, n: 0, error: failure("cancelled", reason), emitted: this.#words_made });
  }

  stop(): void {
    if (this.#timer && "refresh" in this.#timer) clearTimeout(this.#timer);
    else if (this.#timer) clearImmediate(this.#timer);
    this.state.ended = true;
  }

  #next(): void {
    const turn = () => {
      if (this.state.ended) return;
      if (this.#words_made >= this.script.words) return this.#finish();
      this.#words_made += 1;
      this.#held.push(`w${this.#words_made} `);
      this.#flush();
      this.#next();
    };
    this.#timer = this.script.interval_ms > 0 ? setTimeout(turn, this.script.interval_ms) : setImmediate(turn);
  }

  /** Beyond the credit words are held back and then sent as one frame. */
  #flush(): void {
    if (this.#held.length === 0 || this.output.length - this.state.credited >= LINK_CREDIT_FRAMES) return;
    const words = this.#held;
    this.#held = [];
    this.#emit({ type: "token", call: this.#id, n: 0, choice: 0, delta: { content: words.join("") }, tokens: words.length });
  }

  #finish(): void {
    const completion_tokens = this.#words_made;
    const usage = { prompt_tokens: 7, completion_tokens, total_tokens: 7 + completion_tokens };
    const { refuse } = this.script;
    if (refuse) {
      const error = failure(refuse.code, refuse.detail, refuse.param);
      this.#end({ type: "refused", call: this.#id, n: 0, error, emitted: completion_tokens, usage });
    } else {
      this.#end({ type: "done", call: this.#id, n: 0, finish_reason: "stop", usage, legs: [] });
    }
  }

  #end(frame: Numbered): void {
    if (this.#held.length > 0) {
      const words = this.#held;
      this.#held = [];
      this.#emit({ type: "token", call: this.#id, n: 0, choice: 0, delta: { content: words.join("") }, tokens: words.length });
    }
    this.state.ended = true;
    this.#emit(frame);
  }

  #emit(frame: Numbered): void {
    const numbered = { ...frame, n: this.output.length + 1 };
    this.output.push(numbered);
    this.state.frames = numbered.n;
    this.#onFrame(numbered);
  }
}

export async function startLinkPeer(options: { cell_secret?: string; port?: number } = {}): Promise<LinkPeer> {
  const cell_secret = options.cell_secret ?? "a cell secret for tests, long enough";
  const calls = new Map<string, PeerCall>();
  const history = new Map<string, { tenant: string; state: PeerCallState }>();
  const connections = new Set<Connection>();
  /** How many connections each tenant has ever had. */
  const totals = new Map<string, number>();
  const refusals = new Map<string, number>();
  const scripts = new Map<string, PeerScript>();

  const forget = (tenant: string) => {
    for (const [id, call] of calls) {
      if (!covers(tenant, call.tenant)) continue;
      call.stop();
      calls.delete(id);
    }
  };
  const destroy = (tenant: string) => {
    for (const connection of connections) if (covers(tenant, connection.tenant)) connection.socket.terminate();
  };

  function control(command: PeerControl): void {
    const tenant = command.tenant ?? ALL;
    switch (command.do) {
      case "restart":
        forget(tenant);
        return destroy(tenant);
      case "kill_connections":
        return destroy(tenant);
      case "refuse_upgrades":
        refusals.set(tenant, command.status);
        return;
      case "silence":
        for (const connection of connections) if (covers(tenant, connection.tenant)) connection.silent = true;
        return;
      case "script":
        scripts.set(tenant, command.script);
        return;
    }
  }

  function state(tenant = ALL): PeerState {
    const open = [...connections].filter((connection) => covers(tenant, connection.tenant));
    const kept = [...history].filter(([, call]) => covers(tenant, call.tenant));
    return {
      connections_open: open.length,
      connections_total: [...totals].reduce((sum, [of, count]) => (covers(tenant, of) ? sum + count : sum), 0),
      calls: Object.fromEntries(kept.map(([id, call]) => [id, call.state])),
      tenants: [...totals.keys()],
    };
  }

  function say(connection: Connection | undefined, frame: LinkFromGateway): void {
    if (connection && !connection.silent && connection.socket.readyState === connection.socket.OPEN) {
      connection.socket.send(JSON.stringify(frame));
    }
  }

  function emitted(call: PeerCall, frame: Numbered): void {
    if (!call.connection) return;
    say(call.connection, frame);
    call.sent_on_connection += 1;
    if (call.script.restart_after !== undefined && call.sent_on_connection >= call.script.restart_after) {
      delete call.script.restart_after;
      control({ do: "restart", tenant: call.tenant });
    }
    const [kill_after] = call.script.kill_after;
    if (kill_after !== undefined && call.sent_on_connection >= kill_after) {
      call.script.kill_after.shift();
      call.connection.socket.terminate();
      call.connection = undefined;
    }
  }

  function arrived(connection: Connection, frame: CallFrame): void {
    const known = calls.get(frame.call);
    if (known) {
      known.state.attached += 1;
      attach(connection, known, frame.from);
    } else if (frame.from > 0) {
      say(connection, { type: "refused", call: frame.call, n: frame.from + 1, error: failure("gateway_lost"), emitted: frame.from });
    } else {
      const script = scriptIn(frame) ?? structuredClone(scripts.get(connection.tenant) ?? scripts.get(ALL) ?? peerScript.parse({}));
      say(connection, { type: "accepted", call: frame.call });
      if (script.queued !== undefined) say(connection, { type: "queued", call: frame.call, position: script.queued });
      const call: PeerCall = new PeerCall(frame.call, connection.tenant, script, (numbered) => emitted(call, numbered));
      call.connection = connection;
      call.state.runs = (history.get(frame.call)?.state.runs ?? 0) + 1;
      calls.set(frame.call, call);
      history.set(frame.call, { tenant: connection.tenant, state: call.state });
    }
  }

  function attach(connection: Connection, call: PeerCall, from: number): void {
    call.connection = connection;
    call.sent_on_connection = 0;
    for (const numbered of call.output.slice(from)) {
      if (call.connection !== connection) return; // killed in mid-replay by its script
      emitted(call, numbered);
    }
  }

  function heard(connection: Connection, data: RawData, binary: boolean): void {
    if (connection.silent) return;
    const frame = binary ? undefined : parse((data as Buffer).toString());
    if (!frame) return say(connection, { type: "fault", error: failure("malformed_frame") });
    switch (frame.type) {
      case "hello":
        connection.link = frame.link;
        if (frame.versions.includes(1)) say(connection, { type: "welcome", version: 1, cell: "cell_test", epoch: 1 });
        else say(connection, { type: "fault", error: failure("unsupported_version", "1") });
        return;
      case "call":
        return arrived(connection, frame);
      case "cancel":
        return calls.get(frame.call)?.cancel(frame.reason);
      case "credit":
        return calls.get(frame.call)?.credit(frame.n);
      case "ping":
        return say(connection, { type: "pong", t: frame.t });
    }
  }

  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: LINK_FRAME_BYTES_MAX,
    handleProtocols: (protocols) => (protocols.has(LINK_PROTOCOL) ? LINK_PROTOCOL : false),
  });
  const server = createServer((request, response) => void answer(request, response));
  server.on("upgrade", (request, socket: Socket, head) => {
    void (async () => {
      const tenant = await tenantOf(request, cell_secret);
      const status = tenant === undefined ? 401 : (refusals.get(tenant) ?? refusals.get(ALL) ?? 0);
      if (tenant === undefined || status !== 0) {
        socket.end(`HTTP/1.1 ${status} Refused\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`);
        return;
      }
      sockets.handleUpgrade(request, socket, head, (opened) => {
        const connection: Connection = { socket: opened, tenant, silent: false, link: "" };
        connections.add(connection);
        totals.set(tenant, (totals.get(tenant) ?? 0) + 1);
        opened.on("message", (data, binary) => heard(connection, data, binary));
        opened.on("error", () => opened.terminate());
        opened.on("close", () => {
          connections.delete(connection);
          for (const call of calls.values()) if (call.connection === connection) call.connection = undefined;
        });
      });
    })();
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? "/", "http://peer");
    if (pathname !== "/control") {
      response.writeHead(404).end();
      return;
    }
    if (request.method === "POST") {
      let body = "";
      for await (const chunk of request) body += String(chunk);
      control(peerControl.parse(JSON.parse(body)));
    }
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(state(searchParams.get("tenant") ?? ALL)));
  }

  await new Promise<void>((resolve) => server.listen(options.port ?? 0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const close = async () => {
    forget(ALL);
    destroy(ALL);
    server.closeAllConnections();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  };
  return { url: `http://127.0.0.1:${port}`, cell_secret, control, state, close };
}

async function tenantOf(request: IncomingMessage, cell_secret: string): Promise<string | undefined> {
  const [, token] = /^Bearer (.+)$/.exec(request.headers.authorization ?? "") ?? [];
  if (request.url !== "/link" || token === undefined) return undefined;
  try {
    const verified = await jwtVerify(token, new TextEncoder().encode(cell_secret), { issuer: TOKEN_ISSUER, audience: TOKEN_AUDIENCE });
    return String(verified.payload["tenant"]);
  } catch {
    return undefined;
  }
}

function parse(text: string): LinkFromEdge | undefined {
  try {
    const parsed = linkFromEdge.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data : undefined;
  } catch {
    return undefined;
  }
}

function scriptIn(frame: CallFrame): PeerScript | undefined {
  const last = "messages" in frame.body ? frame.body.messages.at(-1)?.content : frame.body.prompt;
  if (typeof last !== "string" || !last.startsWith('{"peer":')) return undefined;
  const holder: { peer: unknown } = JSON.parse(last);
  return peerScript.parse(holder.peer);
}
