/** The client's end of a session against a peer that speaks the session's, on real sockets that are cut at will. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { WebSocketServer, type WebSocket } from "ws";
import { sessionFromClient, SESSION_PROTOCOL, type SessionEvent, type SessionFromClient } from "../../schema/core/wire/session.ts";
import { until } from "../../test/support/until.ts";
import { MillraceClientError } from "./error.ts";
import { openSession, type SessionConnection, type SessionItem, type SessionOptions } from "./session.ts";

/** A session's log and its sockets; what a test does to it, it does by hand. */
class Peer {
  readonly log: SessionEvent[] = [];
  readonly sockets = new Set<WebSocket>();
  readonly heard: SessionFromClient[] = [];
  readonly tickets: string[] = [];
  truncated_before: number | undefined;
  busy = false;
  /** Sockets are destroyed when they have been sent so many events. */
  cut_after = Infinity;
  url = "";
  readonly #server = createServer();

  async open(): Promise<void> {
    const sockets = new WebSocketServer({ server: this.#server, handleProtocols: () => SESSION_PROTOCOL });
    sockets.on("connection", (socket, request) => {
      this.sockets.add(socket);
      this.tickets.push(new URL(request.url ?? "", "http://peer").searchParams.get("ticket") ?? "");
      socket.on("message", (data) => this.#hear(socket, (data as Buffer).toString()));
      socket.on("close", () => this.sockets.delete(socket));
    });
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  append(text: string): void {
    const event: SessionEvent = { seq: this.log.length + 1, at_ms: 1, type: "delta", turn: "t1", step: "s", text };
    this.log.push(event);
    for (const socket of this.sockets) this.send(socket, event);
  }

  cut(): void {
    for (const socket of this.sockets) socket.terminate();
  }

  send(socket: WebSocket, frame: object): void {
    socket.send(JSON.stringify(frame));
  }

  #hear(socket: WebSocket, text: string): void {
    if (text === "ping") return socket.send("pong");
    const frame = sessionFromClient.parse(JSON.parse(text));
    this.heard.push(frame);
    if (frame.type === "hello") this.#welcome(socket, frame.resume_from);
    if (frame.type === "message") this.#message(socket, frame);
  }

  #welcome(socket: WebSocket, resume_from: number): void {
    const { truncated_before } = this;
    if (resume_from > this.log.length) {
      return this.send(socket, { type: "refused", error: { code: "invalid_request", detail: "beyond the end", param: "resume_from" } });
    }
    const truncated = truncated_before !== undefined && truncated_before > resume_from + 1 ? { truncated_before } : {};
    this.send(socket, { type: "welcome", session: "ses_1", seq: this.log.length, ...truncated });
    const from = Math.max(resume_from, (truncated.truncated_before ?? 1) - 1);
    this.log.slice(from, from + this.cut_after).forEach((event) => this.send(socket, event));
    if (this.log.length - from > this.cut_after) socket.terminate();
  }

  #message(socket: WebSocket, { id, text }: { id: string; text: string }): void {
    if (this.log.some((event) => event.type === "message" && event.id === id)) return;
    if (this.busy) return this.send(socket, { type: "refused", id, error: { code: "turn_in_progress" } });
    const event: SessionEvent = { seq: this.log.length + 1, at_ms: 1, type: "message", id, text };
    this.log.push(event);
    for (const each of this.sockets) this.send(each, event);
  }
}

let peer: Peer;
const opened: SessionConnection[] = [];
beforeEach(async () => {
  peer = new Peer();
  await peer.open();
});
afterEach(async () => {
  for (const session of opened.splice(0)) session.close();
  await peer.close();
});

let tickets = 0;
function open(options: Partial<SessionOptions> = {}): SessionConnection {
  const ticket = async () => `ticket-${(tickets += 1)}`;
  const session = openSession({ url: peer.url, session: "ses_1", ticket, backoff: () => 1, ...options });
  opened.push(session);
  return session;
}

async function take(session: SessionConnection, count: number): Promise<SessionItem[]> {
  const items: SessionItem[] = [];
  for await (const item of session) {
    items.push(item);
    if (items.length === count) break;
  }
  return items;
}
const seqs = (items: SessionItem[]) => items.map((item) => (item.type === "truncated" ? `<${item.before}` : item.seq));
const upTo = (n: number) => Array.from({ length: n }, (_, index) => index + 1);

describe("events", () => {
  test("come once and in order over sockets that are cut after every third", async () => {
    for (const n of upTo(40)) peer.append(`${n}`);
    peer.cut_after = 3;
    const session = open();
    expect(seqs(await take(session, 40))).toEqual(upTo(40));
    expect(peer.tickets.length).toBeGreaterThan(12);
    expect(new Set(peer.tickets).size).toBe(peer.tickets.length);
  });

  test("begin after what is known already", async () => {
    for (const n of upTo(10)) peer.append(`${n}`);
    expect(seqs(await take(open({ resume_from: 7 }), 3))).toEqual([8, 9, 10]);
  });

  test("from a place that the session never came to: the refusal ends it, and nothing connects again", async () => {
    for (const n of upTo(3)) peer.append(`${n}`);
    const session = open({ resume_from: 4 });
    const waiting = session.send("hello?");
    await expect(take(session, 1)).rejects.toMatchObject({ code: "invalid_request", message: "beyond the end" });
    await expect(waiting).rejects.toMatchObject({ code: "invalid_request" });
    expect([session.status, peer.tickets.length]).toEqual(["closed", 1]);
  });

  test("that come twice are seen once; a gap makes it connect again", async () => {
    const session = open();
    await until("the socket", () => peer.sockets.size === 1 && session.status === "open");
    for (const n of upTo(5)) peer.append(`${n}`);
    const [socket] = peer.sockets;
    peer.send(socket!, peer.log[1]!);
    peer.log.push({ ...peer.log[4]!, seq: 6 }, { ...peer.log[4]!, seq: 7 });
    peer.send(socket!, peer.log[6]!);
    expect(seqs(await take(session, 7))).toEqual(upTo(7));
    expect(peer.tickets).toHaveLength(2);
  });

  test("that are gone are said to be gone", async () => {
    for (const n of upTo(10)) peer.append(`${n}`);
    peer.truncated_before = 6;
    expect(seqs(await take(open(), 6))).toEqual(["<6", 6, 7, 8, 9, 10]);
  });

  test("are acknowledged when they have been consumed, not before", async () => {
    for (const n of upTo(200)) peer.append(`${n}`);
    const session = open();
    await until("all", () => session.seq === 200);
    expect(peer.heard.filter((frame) => frame.type === "ack")).toEqual([]);
    await take(session, 130);
    const acks = () => peer.heard.flatMap((frame) => (frame.type === "ack" ? [frame.seq] : []));
    await until("the last ack", () => acks().at(-1) === 129);
    expect(acks()).toEqual([64, 128, 129]);
  });
});

describe("messages", () => {
  test("are confirmed by the log, and sent again when the socket was cut before it said so", async () => {
    const session = open();
    await until("open", () => session.status === "open");
    for (const socket of peer.sockets) socket.removeAllListeners("message");
    const sent = session.send("hello", "m1");
    peer.cut();
    expect(await sent).toBe("m1");
    expect(peer.log.filter((event) => event.type === "message")).toHaveLength(1);
  });

  test("may be sent before the socket is open", async () => {
    expect(await open().send("early", "m1")).toBe("m1");
  });

  test("that the session refuses are refused", async () => {
    peer.busy = true;
    await expect(open().send("hello")).rejects.toMatchObject({ code: "turn_in_progress" });
  });

  test("that are unconfirmed at the end are refused", async () => {
    const session = open();
    await until("open", () => session.status === "open");
    for (const socket of peer.sockets) socket.removeAllListeners("message");
    const sent = session.send("hello");
    session.close();
    await expect(sent).rejects.toMatchObject({ code: "closed" });
  });
});

describe("a credential", () => {
  test("that is refused for good ends the session with the refusal", async () => {
    const refusal = new MillraceClientError({ code: "revoked_key", message: "revoked", status: 401 });
    const session = open({ ticket: () => Promise.reject(refusal) });
    await expect(take(session, 1)).rejects.toBe(refusal);
    expect(session.status).toBe("closed");
  });

  test("that cannot be had now is asked for again", async () => {
    peer.append("1");
    let asked = 0;
    const ticket = async () => {
      asked += 1;
      if (asked < 3) throw new MillraceClientError({ code: "network", message: "down", retryable: true });
      return "ticket";
    };
    expect(seqs(await take(open({ ticket }), 1))).toEqual([1]);
    expect(asked).toBe(3);
  });
});
