/** A session as a client has it: opened through the doors, driven over its WebSocket. */
import type { SessionEvent, SessionToClient } from "../schema/core/wire/session.ts";
import { bindings, request } from "./testing.ts";

export type TurnEnd = Extract<SessionEvent, { type: "turn.done" | "error" }>;
export type SessionLogs = {
  lines: { session: string; turn: string; seq: number; at: string; level: string; text: string }[];
  seq: number;
  dropped: number;
};

export class TestSession {
  readonly id: string;
  readonly tenant: string;
  readonly events: SessionEvent[] = [];
  readonly #key: string;
  readonly #socket: WebSocket;
  readonly #ended = new Map<string, (end: TurnEnd) => void>();
  #turns = 0;

  constructor(id: string, of: { tenant: string; all: string }, socket: WebSocket, turns: number) {
    this.id = id;
    this.tenant = of.tenant;
    this.#key = of.all;
    this.#socket = socket;
    this.#turns = turns;
    socket.addEventListener("message", (event) => this.#hear(JSON.parse(String(event.data)) as SessionToClient));
    socket.accept();
    socket.send(JSON.stringify({ type: "hello", resume_from: 0 }));
  }

  /** Begins the next turn; resolves with its end. */
  say(message: unknown): Promise<TurnEnd> {
    this.#turns += 1;
    const { promise, resolve } = Promise.withResolvers<TurnEnd>();
    this.#ended.set(`t${this.#turns}`, resolve);
    const text = typeof message === "string" ? message : JSON.stringify(message);
    this.#socket.send(JSON.stringify({ type: "message", id: `m${this.#turns}`, text }));
    return promise;
  }

  #hear(frame: SessionToClient): void {
    if (!("seq" in frame) || frame.type === "welcome") return;
    this.events.push(frame);
    if ((frame.type === "turn.done" || frame.type === "error") && frame.turn !== undefined) this.#ended.get(frame.turn)?.(frame);
  }

  async logs(after = 0): Promise<SessionLogs> {
    return (await request("GET", `/v1/sessions/${this.id}/logs?after=${after}`, { key: this.#key })).json();
  }

  get stub() {
    return bindings.SESSIONS.getByName(`${this.tenant}/${this.id}`);
  }

  close(): void {
    this.#socket.close(1000, "test over");
  }
}

/** Of a deployed function; with `id`, once more to a session whose turns so far are `turns`. */
export async function openSession(
  name: string,
  of: { tenant: string; all: string },
  again?: { readonly id: string; readonly turns: number },
): Promise<TestSession> {
  const id = again?.id ?? (await created(name, of.all));
  const answer = await request("GET", `/v1/sessions/${id}/connect`, { key: of.all, headers: { upgrade: "websocket" } });
  if (!answer.webSocket) throw new Error(`no socket: ${answer.status} ${await answer.text()}`);
  return new TestSession(id, of, answer.webSocket, again?.turns ?? 0);
}

async function created(name: string, key: string): Promise<string> {
  const answer = await request("POST", "/v1/sessions", { key, body: { function: name } });
  if (!answer.ok) throw new Error(`session of ${name}: ${answer.status} ${await answer.text()}`);
  return (await answer.json<{ session: string }>()).session;
}
