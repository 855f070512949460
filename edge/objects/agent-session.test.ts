/** A session in workerd, with a real isolate, a real Postgres, and a peer that speaks the gateway's end of the link. */
import { env } from "cloudflare:workers";
import { abortAllDurableObjects, evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import postgres from "postgres";
import { afterEach, beforeAll, describe, expect, inject, test } from "vitest";
import { sha256Hex } from "../../schema/core/hash.ts";
import { asId, randomId, type SessionId } from "../../schema/core/ids.ts";
import { SESSION_FRAME_BYTES_MAX, SESSION_LOG_EVENTS_MAX, SESSION_UNACKED_EVENTS_MAX } from "../../schema/core/wire/limits.ts";
import type { SessionEvent, SessionToClient } from "../../schema/core/wire/session.ts";
import { sessionToClient } from "../../schema/core/wire/session.ts";
import { deployVersion } from "../../schema/db/queries/functions/deploy-version.ts";
import { createKey } from "../../schema/db/queries/keys/create-key.ts";
import { revokeKey } from "../../schema/db/queries/keys/revoke-key.ts";
import { ensureProject } from "../../schema/db/queries/tenants/ensure-project.ts";
import type { PeerControl, PeerScript, PeerState } from "../../test/support/link-peer.ts";
import type { Env } from "../env.ts";
import { type AgentSession, CALLER_HEADER, type SocketCaller } from "./agent-session.ts";
import { importSession } from "./session-export.ts";
import fixture from "./session-fixture-1.json";
import { SessionLog } from "./session-log.ts";
import type { SessionIdentity } from "./session-store.ts";

const TENANT = asId<"tenant">("ten_sessions");
const PROJECT = asId<"project">("prj_sessions");
const CALLER = { tenant: TENANT, project: PROJECT, key: "key_sessions", scopes: ["invoke"] };
const bindings = env as unknown as Env;
const peer_url = inject("link_peer").url;
type Stub = DurableObjectStub<AgentSession>;

const ECHO = `
import { agent } from "millrace";
export default agent(async (ctx) => (await ctx.ai.chat(ctx.input.message)).text);`;
const ECHO_INPUT = `
import { agent } from "millrace";
export default agent(async (ctx) => (await ctx.ai.chat(ctx.input)).text);`;
const CALLS_THREE = `
import { agent } from "millrace";
export default agent(async (ctx) => {
  const texts = await Promise.all([1, 2, 3].map(() => ctx.call("helper", ctx.input.message)));
  return texts.join("|");
});`;
const TALKER = `
import { agent } from "millrace";
export default agent(async (ctx) => {
  await ctx.emit("history", ctx.input.history);
  if (ctx.input.message === "throw") throw new Error("as asked");
  return { heard: ctx.input.message };
});`;
const TWO_STEPS = `
import { agent } from "millrace";
export default agent(async (ctx) => {
  const first = await ctx.ai.chat(JSON.stringify({ peer: { words: 3 } }), { name: "first" });
  const second = await ctx.ai.chat(ctx.input.message, { name: "second" });
  return first.text + second.text;
});`;

const sql = postgres(bindings.DB.connectionString, { max: 1, fetch_types: false, onnotice: () => {} });
beforeAll(async () => {
  await ensureProject(sql, { tenant: TENANT, tenant_name: "sessions", project: PROJECT, project_name: "sessions" });
  await mint(CALLER.key);
});
const mint = (key: string, expires_at: string | null = null) =>
  createKey(sql, {
    tenant: TENANT,
    project: PROJECT,
    key: asId<"key">(key),
    secret_hash: sha256Hex(key),
    name: key,
    scopes: ["invoke"],
    expires_at,
  });

let named = 0;
async function session(code = ECHO, config: object = {}): Promise<{ stub: Stub; identity: SessionIdentity }> {
  const settings = { timeout_ms: 20_000, egress: [], isolation: "version" as const, ...config };
  const deployed = await deployVersion(sql, { tenant: TENANT, project: PROJECT, name: "echo", code, config: settings, alias: "live" });
  const id: SessionId = randomId("session", crypto.getRandomValues(new Uint8Array(16)));
  const stub = stubOf(id);
  const identity: SessionIdentity = {
    session: id,
    tenant: TENANT,
    project: PROJECT,
    function: deployed.function,
    function_name: deployed.name,
    version: deployed.version,
    code_hash: deployed.code_hash,
    config_hash: deployed.config_hash,
    config: settings,
    created_at_ms: Date.now(),
  };
  await stub.create(identity);
  return { stub, identity };
}
/** A session whose function asks another three times at once. */
async function callers(): Promise<{ stub: Stub; identity: SessionIdentity }> {
  const config = { timeout_ms: 20_000, egress: [], isolation: "version" };
  await deployVersion(sql, { tenant: TENANT, project: PROJECT, name: "helper", code: ECHO_INPUT, config, alias: "live" });
  return session(CALLS_THREE);
}
const stubOf = (id: string): Stub => bindings.SESSIONS.get(bindings.SESSIONS.idFromName(`${TENANT}/${id}`));

class Client {
  readonly frames: SessionToClient[] = [];
  readonly socket: WebSocket;
  closed: { code: number; reason: string } | undefined;
  #look: (() => void) | undefined;

  constructor(socket: WebSocket) {
    this.socket = socket;
    socket.addEventListener("message", (event) => {
      if (event.data !== "pong") this.frames.push(sessionToClient.parse(JSON.parse(String(event.data))));
      this.#look?.();
    });
    socket.addEventListener("close", (event) => {
      this.closed = { code: event.code, reason: event.reason };
      this.#look?.();
    });
    socket.accept();
    clients.push(this);
  }

  say(frame: object | string): void {
    this.socket.send(typeof frame === "string" ? frame : JSON.stringify(frame));
  }

  get events(): SessionEvent[] {
    return this.frames.filter((frame): frame is SessionEvent => "seq" in frame && frame.type !== "welcome");
  }

  get last(): number {
    return this.events.at(-1)?.seq ?? 0;
  }

  async until<T>(what: string, look: (client: Client) => T): Promise<NonNullable<T>> {
    const late = setTimeout(() => {
      this.#gave_up = true;
      this.#look?.();
    }, 10_000);
    this.#gave_up = false;
    try {
      for (;;) {
        const value = look(this);
        if (value) return value;
        if (this.#gave_up)
          throw new Error(`waited for ${what}; have ${JSON.stringify(this.frames.slice(-5))} ${JSON.stringify(this.closed)}`);
        await new Promise<void>((resolve) => (this.#look = resolve));
      }
    } finally {
      clearTimeout(late);
    }
  }
  #gave_up = false;

  turnOver(turn = "t1"): Promise<SessionEvent> {
    return this.until(`the end of ${turn}`, (client) =>
      client.events.find((event) => (event.type === "turn.done" || event.type === "error") && event.turn === turn),
    );
  }

  refusal(): Promise<Extract<SessionToClient, { type: "refused" }>> {
    return this.until("a refusal", (client) => client.frames.find((frame) => frame.type === "refused"));
  }
}
const clients: Client[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) if (!client.closed) client.socket.close(1000, "test over");
  await control({ do: "refuse_upgrades", status: 0 });
});

async function connect(stub: Stub, resume_from?: number, caller: typeof CALLER & { expires_at_ms?: number } = CALLER): Promise<Client> {
  const { expires_at_ms, ...claims } = caller;
  const let_in = { claims, ...(expires_at_ms === undefined ? {} : { expires_at_ms }) } as SocketCaller;
  const headers = { upgrade: "websocket", [CALLER_HEADER]: JSON.stringify(let_in) };
  const response = await stub.fetch("http://session/connect", { headers });
  if (!response.webSocket) throw new Error(`no socket: ${response.status}`);
  const client = new Client(response.webSocket);
  if (resume_from !== undefined) client.say({ type: "hello", resume_from });
  return client;
}

const script = (of: Partial<PeerScript>): string => JSON.stringify({ peer: of });
const message = (text: string, id = `m${(named += 1)}`) => ({ type: "message", id, text });
const words = (count: number): string => Array.from({ length: count }, (_, index) => `w${index + 1} `).join("");
const textOf = (events: SessionEvent[]): string => events.map((event) => (event.type === "delta" ? event.text : "")).join("");
function textByStep(events: SessionEvent[]): string[] {
  const texts = new Map<string, string>();
  for (const event of events) if (event.type === "delta") texts.set(event.step, (texts.get(event.step) ?? "") + event.text);
  return [...texts.values()];
}
const seqs = (events: SessionEvent[]): number[] => events.map((event) => event.seq);
const upTo = (n: number): number[] => Array.from({ length: n }, (_, index) => index + 1);

async function control(command: PeerControl): Promise<PeerState> {
  return (await fetch(`${peer_url}/control`, { method: "POST", body: JSON.stringify({ ...command, tenant: TENANT }) })).json();
}
async function logged(stub: Stub): Promise<SessionEvent[]> {
  const events: SessionEvent[] = [];
  for (;;) {
    const page = JSON.parse(await stub.events(events.at(-1)?.seq ?? 0)) as { events: SessionEvent[]; seq: number };
    events.push(...page.events);
    if (page.events.length === 0) return events;
  }
}
const peerState = async (): Promise<PeerState> => (await fetch(`${peer_url}/control?tenant=${TENANT}`)).json();

describe("a turn", () => {
  test("its events come in order, end with turn.done, and stand in the log as they came", async () => {
    const { stub } = await session();
    const client = await connect(stub, 0);
    client.say(message(script({ words: 30 })));
    const done = await client.turnOver();
    expect(done).toMatchObject({ type: "turn.done", turn: "t1", output: words(30) });
    expect(textOf(client.events)).toBe(words(30));
    expect(seqs(client.events)).toEqual(upTo(client.last));
    expect(client.events.slice(0, 2).map((event) => event.type)).toEqual(["message", "turn.started"]);
    expect(client.events.some((event) => event.type === "usage" && event.usage.completion_tokens === 30)).toBe(true);
    expect(await logged(stub)).toEqual(client.events);
  });

  test("the next one is given what was said before", async () => {
    const { stub } = await session(TALKER);
    const client = await connect(stub, 0);
    client.say(message("one"));
    await client.turnOver("t1");
    client.say(message("two"));
    await client.turnOver("t2");
    const histories = client.events.flatMap((event) => (event.type === "event" ? [event.data] : []));
    expect(histories).toEqual([
      [],
      [
        { role: "user", content: "one" },
        { role: "assistant", content: '{"heard":"one"}' },
      ],
    ]);
  });

  test("a function that throws ends it with an error, and the session goes on", async () => {
    const { stub } = await session(TALKER);
    const client = await connect(stub, 0);
    client.say(message("throw"));
    expect(await client.turnOver("t1")).toMatchObject({ type: "error", partial: false, error: { code: "function_threw" } });
    client.say(message("again"));
    expect(await client.turnOver("t2")).toMatchObject({ type: "turn.done" });
  });

  test("a model call that fails in mid-answer leaves a partial turn", async () => {
    const { stub } = await session();
    const client = await connect(stub, 0);
    client.say(message(script({ words: 5, refuse: { code: "engine_failed" } })));
    expect(await client.turnOver()).toMatchObject({ type: "error", partial: true });
    expect(textOf(client.events)).toBe(words(5));
  });

  test("one that never ends is over at its deadline, its call cancelled at the gateway", async () => {
    const { stub } = await session(ECHO, { timeout_ms: 300 });
    const client = await connect(stub, 0);
    client.say(message(script({ hang: true })));
    expect(await client.turnOver()).toMatchObject({ type: "error", error: { code: "function_timeout" } });
  });

  test("functions that it calls answer through the session's link, and their words are in its log", async () => {
    const { stub } = await callers();
    const connections = (await peerState()).connections_total;
    const client = await connect(stub, 0);
    client.say(message(script({ words: 20, interval_ms: 1 })));
    expect(await client.turnOver()).toMatchObject({ type: "turn.done", output: [words(20), words(20), words(20)].join("|") });
    expect((await peerState()).connections_total - connections).toBe(1);
    expect(textByStep(client.events)).toEqual([words(20), words(20), words(20)]);
  });

  test("a second message during it is refused, and taken afterwards", async () => {
    const { stub } = await session();
    const client = await connect(stub, 0);
    client.say(message(script({ words: 200, interval_ms: 1 })));
    await client.until("a delta", ({ events }) => events.some((event) => event.type === "delta"));
    const second = message(script({ words: 1 }));
    client.say(second);
    expect(await client.refusal()).toEqual({ type: "refused", id: second.id, error: { code: "turn_in_progress" } });
    await client.turnOver("t1");
    client.say(second);
    expect(await client.turnOver("t2")).toMatchObject({ type: "turn.done", output: words(1) });
  });

  test("cancel stops it and the work at the gateway, and keeps what was said", async () => {
    const { stub } = await session();
    const client = await connect(stub, 0);
    client.say(message(script({ words: 100_000, interval_ms: 1 })));
    await client.until("some deltas", ({ events }) => events.filter((event) => event.type === "delta").length > 3);
    client.say({ type: "cancel" });
    expect(await client.turnOver()).toMatchObject({ type: "error", partial: true, error: { code: "cancelled" } });
    const { calls } = await untilPeer((state) => Object.values(state.calls).every((call) => call.ended));
    expect(Object.values(calls).some((call) => call.cancelled !== null)).toBe(true);
  });

  test("what it used is owed to Postgres, and paid once", async () => {
    const { stub, identity } = await session(TALKER);
    const client = await connect(stub, 0);
    client.say(message("hello"));
    await client.turnOver();
    client.socket.close(1000, "bye");
    await client.until("the close", ({ closed }) => closed);
    await untilTrue(async () => {
      await runDurableObjectAlarm(stub);
      return (await kindsOf(identity.session)).length === 3;
    });
    expect(await kindsOf(identity.session)).toEqual(["edge_request", "edge_wall", "session_time"]);
  });
});

describe("messages", () => {
  test("the same id again changes nothing, also on another socket", async () => {
    const { stub } = await session();
    const first = await connect(stub, 0);
    const said = message(script({ words: 3 }));
    first.say(said);
    first.say(said);
    await first.turnOver();
    const second = await connect(stub, 0);
    second.say(said);
    second.say({ type: "cancel" });
    await second.refusal();
    expect((await logged(stub)).filter((event) => event.type === "turn.started")).toHaveLength(1);
  });

  test("the same id with another text is refused", async () => {
    const { stub } = await session(TALKER);
    const client = await connect(stub, 0);
    client.say(message("one", "same"));
    await client.turnOver();
    client.say(message("another", "same"));
    expect(await client.refusal()).toMatchObject({ id: "same", error: { code: "idempotency_mismatch" } });
  });
});

test("a key that was revoked begins no turn, and its socket is closed", async () => {
  const { stub } = await session(TALKER);
  const key = `key_${crypto.randomUUID()}`;
  await mint(key);
  await revokeKey(sql, { tenant: TENANT, project: PROJECT, key });
  const client = await connect(stub, 0, { ...CALLER, key });
  client.say(message("let me in"));
  await client.until("the close", ({ closed }) => closed);
  expect(client.closed?.code).toBe(4003);
  expect((await client.refusal()).error.code).toBe("revoked_key");
  expect(await logged(stub)).toEqual([]);
});

test("a key that is revoked reads no further, and cancels nothing", async () => {
  const { stub } = await session();
  const key = `key_${crypto.randomUUID()}`;
  await mint(key);
  const owner = await connect(stub, 0);
  const revoked = await connect(stub, 0, { ...CALLER, key });
  owner.say(message(script({ words: 120, interval_ms: 60 })));
  await revoked.until("a delta", ({ events }) => events.some(({ type }) => type === "delta"));
  await revokeKey(sql, { tenant: TENANT, project: PROJECT, key });
  await revoked.until("the close", ({ closed }) => closed);
  expect(revoked.closed?.code).toBe(4003);
  expect(owner.events.some(({ type }) => type === "turn.done")).toBe(false);
  const again = await connect(stub, undefined, { ...CALLER, key });
  again.say({ type: "hello", resume_from: 0 });
  again.say({ type: "cancel" });
  await again.until("the close", ({ closed }) => closed);
  expect(again.closed?.code).toBe(4003);
  expect(again.events).toEqual([]);
  expect(await owner.turnOver()).toMatchObject({ type: "turn.done", output: words(120) });
});

test("a key that is revoked while a turn is silent is found by the alarm", async () => {
  const { stub } = await session();
  const key = `key_${crypto.randomUUID()}`;
  await mint(key);
  const owner = await connect(stub, 0);
  const revoked = await connect(stub, 0, { ...CALLER, key });
  owner.say(message(script({ words: 1, hang: true })));
  await revoked.until("the turn", ({ events }) => events.some(({ type }) => type === "turn.started"));
  await revokeKey(sql, { tenant: TENANT, project: PROJECT, key });
  await revoked.until("the close", ({ closed }) => closed);
  expect(revoked.closed?.code).toBe(4003);
  owner.say({ type: "cancel" });
  expect((await owner.turnOver()).type).toBe("error");
});

test("a key that was revoked past the door, in a session that sleeps, is found by the slow alarm", async () => {
  const { stub } = await session(TALKER);
  const key = `key_${crypto.randomUUID()}`;
  await mint(key);
  const client = await connect(stub, 0, { ...CALLER, key });
  await client.until("welcome", ({ frames }) => frames[0]);
  await revokeKey(sql, { tenant: TENANT, project: PROJECT, key });
  await evictDurableObject(stub);
  expect(await runDurableObjectAlarm(stub)).toBe(true);
  await client.until("the close", ({ closed }) => closed);
  expect(client.closed?.code).toBe(4003);
});

test("frames that look at no key do not put that alarm off", async () => {
  const { stub } = await session(TALKER);
  const client = await connect(stub, 0);
  await client.until("welcome", ({ frames }) => frames[0]);
  const alarm = () => runInDurableObject(stub, (_object, { storage }) => storage.getAlarm());
  const soon = Date.now() + 60_000;
  await runInDurableObject(stub, (_object, { storage }) => storage.setAlarm(soon));
  await (await connect(stub, 0)).until("welcome", ({ frames }) => frames[0]);
  expect(await alarm()).toBe(soon);
});

test("a socket whose key expires is closed then, although the session does nothing", async () => {
  const { stub } = await session(TALKER);
  const key = `key_${crypto.randomUUID()}`;
  const expires_at_ms = Date.now() + 500;
  await mint(key, new Date(expires_at_ms).toISOString());
  const client = await connect(stub, 0, { ...CALLER, key, expires_at_ms });
  await client.until("the close", ({ closed }) => closed);
  expect(client.closed?.code).toBe(4003);
});

test("a message and a cancel that are sent together are taken in that order", async () => {
  const { stub } = await session();
  const client = await connect(stub);
  client.say({ type: "hello", resume_from: 0 });
  client.say(message(script({ words: 1, hang: true })));
  client.say({ type: "cancel" });
  expect(await client.turnOver()).toMatchObject({ type: "error", turn: "t1", error: { code: "cancelled" } });
  expect(client.frames.filter((frame) => frame.type === "refused")).toEqual([]);
});

describe("reconnecting", () => {
  test("at forty random places in a stream: no gap, no duplicate", async () => {
    const random = seeded(20_261_120);
    const { stub } = await session();
    const seen: SessionEvent[] = [];
    let kills = 0;
    const said = message(script({ words: 400, interval_ms: 1 }));
    for (;;) {
      const client = await connect(stub, seen.at(-1)?.seq ?? 0);
      client.say(said);
      const stop_after = 1 + Math.floor(random() * 12);
      await client.until("events", ({ events }) => events.length >= stop_after || events.some((event) => event.type === "turn.done"));
      client.socket.close(1000, "killed");
      seen.push(...client.events);
      kills += 1;
      if (seen.some((event) => event.type === "turn.done")) break;
    }
    expect(kills).toBeGreaterThanOrEqual(10);
    expect(seqs(seen)).toEqual(upTo(seen.length));
    expect(textOf(seen)).toBe(words(400));
    expect(await logged(stub)).toEqual(seen);
  });

  test("beyond the end is refused, and says where that is; the same socket may begin again", async () => {
    const { stub } = await session(TALKER);
    const driver = await connect(stub, 0);
    driver.say(message("one"));
    await driver.turnOver();
    const end = driver.last;
    const ahead = await connect(stub, end + 1);
    expect(await ahead.refusal()).toEqual({
      type: "refused",
      error: { code: "invalid_request", detail: expect.stringContaining(`last event is ${end}:`), param: "resume_from" },
    });
    expect(ahead.frames).toHaveLength(1);
    ahead.say({ type: "hello", resume_from: end });
    expect(await ahead.until("welcome", ({ frames }) => frames[1])).toMatchObject({ type: "welcome", seq: end });
    driver.say(message("two"));
    expect((await ahead.turnOver("t2")).type).toBe("turn.done");
    expect(ahead.events[0]?.seq).toBe(end + 1);
  });

  test("a log that lost its beginning says where it starts", async () => {
    const { stub } = await session(TALKER);
    await fill(stub, SESSION_LOG_EVENTS_MAX + 50);
    const client = await connect(stub, 7);
    await client.until("events", ({ events }) => events.length > 0);
    expect(client.frames[0]).toMatchObject({ type: "welcome", seq: SESSION_LOG_EVENTS_MAX + 50, truncated_before: 51 });
    expect(client.events[0]?.seq).toBe(51);
  });
});

describe("readers", () => {
  test("two at once see the same, one of them from the middle", async () => {
    const { stub } = await session();
    const driver = await connect(stub, 0);
    const observer = await connect(stub, 0);
    driver.say(message(script({ words: 60, interval_ms: 1 })));
    await driver.until("some events", ({ last }) => last > 6);
    const late = await connect(stub, 4);
    await Promise.all([driver, observer, late].map((client) => client.turnOver()));
    expect(observer.events).toEqual(driver.events);
    expect(late.events).toEqual(driver.events.slice(4));
  });

  test("a replay stops at what may be unacknowledged, and goes on with the ack", async () => {
    const { stub } = await session(TALKER);
    const total = SESSION_UNACKED_EVENTS_MAX + 500;
    await fill(stub, total);
    const client = await connect(stub, 0);
    await client.until("the window", ({ last }) => last === SESSION_UNACKED_EVENTS_MAX);
    client.say({ type: "cancel" });
    await client.refusal();
    expect(client.last).toBe(SESSION_UNACKED_EVENTS_MAX);
    client.say({ type: "ack", seq: 2_000 });
    await client.until("the rest", ({ last }) => last === total);
    expect(seqs(client.events)).toEqual(upTo(total));
  });

  test("one that acknowledges nothing while the log goes on is closed with 4008, and may resume", async () => {
    const { stub } = await session(TALKER);
    await fill(stub, 10);
    const slow = await connect(stub, 0);
    await slow.until("the replay", ({ last }) => last === 10);
    await fill(stub, SESSION_UNACKED_EVENTS_MAX + 1);
    slow.say(message("wake"));
    await slow.until("the close", ({ closed }) => closed);
    expect(slow.closed?.code).toBe(4008);
    const again = await connect(stub, slow.last);
    await again.until("the next event", ({ events }) => events.length > 0);
    expect(again.events[0]?.seq).toBe(slow.last + 1);
  });

  test("an ack of what was never sent is refused", async () => {
    const { stub } = await session(TALKER);
    const client = await connect(stub, 0);
    client.say({ type: "ack", seq: 99 });
    expect(await client.refusal()).toMatchObject({ error: { code: "invalid_request", param: "seq" } });
  });

  test("ping is answered, and wakes nobody", async () => {
    const { stub } = await session(TALKER);
    const headers = { upgrade: "websocket", [CALLER_HEADER]: JSON.stringify({ claims: CALLER }) };
    const { webSocket } = await stub.fetch("http://session/connect", { headers });
    const { promise, resolve } = Promise.withResolvers<unknown>();
    webSocket!.addEventListener("message", (event) => resolve(event.data));
    webSocket!.accept();
    webSocket!.send("ping");
    expect(await promise).toBe("pong");
    webSocket!.close(1000, "bye");
  });
});

describe("bad frames", () => {
  const cases: [string, string, string][] = [
    ["not JSON", "{", "malformed_json"],
    ["null", "null", "malformed_frame"],
    ["a list", "[]", "malformed_frame"],
    ["a number", "1e400", "malformed_frame"],
    ["an unknown type", '{"type":"reboot"}', "malformed_frame"],
    ["no type", "{}", "malformed_frame"],
    ["__proto__", '{"__proto__":{"type":"hello"}}', "malformed_frame"],
    ["a message without text", '{"type":"message","id":"a"}', "invalid_request"],
    ["an empty message", '{"type":"message","id":"a","text":""}', "invalid_request"],
    ["a message too long", JSON.stringify({ type: "message", id: "a", text: "x".repeat(131_073) }), "invalid_request"],
    ["a negative seq", '{"type":"ack","seq":-1}', "invalid_request"],
    ["a seq that is no integer", '{"type":"ack","seq":1.5}', "invalid_request"],
    ["a second hello", '{"type":"hello","resume_from":0}', "invalid_request"],
  ];
  test.each(cases)("%s is refused, and the socket lives", async (_name, frame, code) => {
    const { stub } = await session(TALKER);
    const client = await connect(stub, 0);
    client.say(frame);
    expect((await client.refusal()).error.code).toBe(code);
    client.say(message("still there"));
    await client.turnOver();
  });

  test("anything before hello is refused", async () => {
    const { stub } = await session(TALKER);
    const client = await connect(stub);
    client.say(message("early"));
    expect((await client.refusal()).error.code).toBe("malformed_frame");
  });

  test("binary is refused", async () => {
    const { stub } = await session(TALKER);
    const client = await connect(stub, 0);
    client.socket.send(new Uint8Array([1, 2, 3]));
    expect((await client.refusal()).error.code).toBe("malformed_frame");
  });

  test("a frame larger than the limit closes the socket with 1009, and only that one", async () => {
    const { stub } = await session(TALKER);
    const [big, other] = [await connect(stub, 0), await connect(stub, 0)];
    big.say("x".repeat(SESSION_FRAME_BYTES_MAX + 1));
    await big.until("the close", ({ closed }) => closed);
    expect(big.closed?.code).toBe(1009);
    other.say(message("still there"));
    await other.turnOver();
  });

  test("ten thousand tiny frames harm nobody", async () => {
    const { stub } = await session(TALKER);
    const [noisy, other] = [await connect(stub, 0), await connect(stub, 0)];
    for (let count = 0; count < 10_000; count += 1) noisy.say({ type: "ack", seq: 0 });
    other.say(message("still there"));
    await other.turnOver();
    expect(noisy.closed).toBeUndefined();
  });
});

describe("an object that dies in mid-turn", () => {
  test("continues from the link's cursor, with each word once and finished steps not repeated", async () => {
    const { stub: first, identity } = await session(TWO_STEPS);
    const client = await connect(first, 0);
    client.say(message(script({ words: 300, interval_ms: 2 })));
    await client.until(
      "deltas of the second step",
      ({ events }) => events.filter((event) => event.type === "delta" && event.step === "second").length > 5,
    );
    const before = Object.keys((await peerState()).calls).length;
    const stub = await crash(identity);
    const again = await connect(stub, client.last);
    const done = await again.turnOver();
    expect(done).toMatchObject({ type: "turn.done", output: words(3) + words(300) });
    const log = await logged(stub);
    expect(seqs(log)).toEqual(upTo(log.length));
    expect(textOf(log)).toBe(words(3) + words(300));
    expect([...client.events, ...again.events]).toEqual(log);
    const state = await peerState();
    expect(Object.keys(state.calls)).toHaveLength(before);
    expect(Object.values(state.calls).every((call) => call.runs === 1)).toBe(true);
  });

  test("is woken by its alarm when no client comes back", async () => {
    const { stub: first, identity } = await session();
    const client = await connect(first, 0);
    client.say(message(script({ words: 100, interval_ms: 2 })));
    await client.until("deltas", ({ events }) => events.filter((event) => event.type === "delta").length > 2);
    const stub = await crash(identity);
    await runDurableObjectAlarm(stub);
    await untilTrue(async () => (await logged(stub)).some((event) => event.type === "turn.done"));
    expect(textOf(await logged(stub))).toBe(words(100));
  });

  test("while functions that it called are at work: each of their words once", async () => {
    const { stub: first, identity } = await callers();
    const client = await connect(first, 0);
    client.say(message(script({ words: 200, interval_ms: 3 })));
    await client.until("deltas", ({ events }) => events.filter((event) => event.type === "delta").length > 10);
    const stub = await crash(identity);
    const again = await connect(stub, client.last);
    expect(await again.turnOver()).toMatchObject({ type: "turn.done", output: [words(200), words(200), words(200)].join("|") });
    const log = await logged(stub);
    expect(seqs(log)).toEqual(upTo(log.length));
    expect(textByStep(log)).toEqual([words(200), words(200), words(200)]);
  });

  test("with the gateway restarted too: one clear error, marked partial", async () => {
    const { stub: first, identity } = await session();
    const client = await connect(first, 0);
    client.say(message(script({ words: 300, interval_ms: 2 })));
    await client.until("deltas", ({ events }) => events.filter((event) => event.type === "delta").length > 3);
    await control({ do: "restart" });
    const stub = await crash(identity);
    const again = await connect(stub, client.last);
    expect(await again.turnOver()).toMatchObject({ type: "error", partial: true, error: { code: "gateway_lost" } });
    const log = await logged(stub);
    expect(log.filter((event) => event.type === "error")).toHaveLength(1);
  });

  test("again and again: the turn ends with an error after its attempts", async () => {
    const { stub: first, identity } = await session();
    const client = await connect(first, 0);
    client.say(message(script({ hang: true })));
    await client.until("the turn", ({ last }) => last >= 2);
    await runInDurableObject(first, (_object, state) => void state.storage.sql.exec("UPDATE session_turns SET attempts = 8"));
    const stub = await crash(identity);
    const again = await connect(stub, 0);
    expect(await again.turnOver()).toMatchObject({ type: "error", error: { code: "internal" } });
  });

  test("evicted while idle: sockets stay open, and the conversation goes on over them", async () => {
    const { stub } = await session(TALKER);
    const client = await connect(stub, 0);
    client.say(message("one"));
    await client.turnOver("t1");
    await evictDurableObject(stub);
    client.say(message("two"));
    await client.turnOver("t2");
    expect(seqs(client.events)).toEqual(upTo(client.last));
  });
});

test("a session exported is the same session where it is imported", async () => {
  const { stub } = await session(TALKER);
  const client = await connect(stub, 0);
  client.say(message("one"));
  await client.turnOver();
  const exported = await stub.export();
  const copy = stubOf(`${exported.session}-copy`);
  await runInDurableObject(copy, (_object, { storage }) =>
    storage.transactionSync(() => importSession(storage.sql, JSON.parse(JSON.stringify(exported)))),
  );
  await evictDurableObject(copy);
  expect(await logged(copy)).toEqual(await logged(stub));
});

test("a session stored in format 1 opens, replays, and goes on", async () => {
  const { identity } = await session(TALKER);
  const copy = stubOf(`${identity.session}-fixture`);
  await runInDurableObject(copy, (_object, { storage }) => {
    storage.transactionSync(() => importSession(storage.sql, fixture));
    // The function that it was created with is deployed here under the ids of this database.
    const then = JSON.parse(fixture.tables.session_meta.find((row) => row.key === "identity")!.value) as SessionIdentity;
    storage.sql.exec("UPDATE session_meta SET value = ? WHERE key = 'identity'", JSON.stringify({ ...identity, session: then.session }));
  });
  await evictDurableObject(copy);
  const client = await connect(copy, 0);
  await client.until("the replay", ({ last }) => last === fixture.tables.session_log.length);
  expect(client.events.map((event) => event.type)).toEqual(fixture.tables.session_log.map((row) => row.type));
  client.say(message("and now?"));
  expect(await client.turnOver("t4")).toMatchObject({ type: "turn.done", output: { heard: "and now?" } });
  const history = client.events.findLast((event) => event.type === "event");
  expect(history).toMatchObject({ data: [{ content: "first" }, {}, { content: "second" }, {}] });
});

/**
 * Kills every object, as a crash of the process would; stubs made before are of no use afterwards. `evictDurableObject` is not
 * this: it waits until nothing is in flight and the link, which pins the object, has lingered and is closed.
 */
async function crash(identity: SessionIdentity): Promise<Stub> {
  await abortAllDurableObjects();
  return stubOf(identity.session);
}

/** Events appended at once, as if long ago. */
async function fill(stub: Stub, count: number): Promise<void> {
  await runInDurableObject(stub, (_object, { storage }) => {
    storage.sql.exec(
      `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
       INSERT INTO session_log (at_ms, type, turn, body)
       SELECT 1, 'delta', 't0', '{"type":"delta","turn":"t0","step":"s","text":"x"}' FROM n`,
      count,
    );
    storage.transactionSync(() => new SessionLog(storage.sql).append([], 1));
  });
}

async function kindsOf(session_id: string): Promise<string[]> {
  const rows = await sql<{ kind: string }[]>`select kind from usage where session = ${session_id} order by kind`;
  return rows.map((row) => row.kind);
}

async function untilTrue(holds: () => Promise<boolean>): Promise<void> {
  const give_up = performance.now() + 10_000;
  while (!(await holds())) {
    if (performance.now() > give_up) throw new Error("what was awaited did not come");
    // Test and object share a thread whose loop looks at the network only when nothing else is ready.
    await scheduler.wait(5);
  }
}

async function untilPeer(holds: (state: PeerState) => boolean): Promise<PeerState> {
  await untilTrue(async () => holds(await peerState()));
  return peerState();
}

/** mulberry32: a fixed seed gives the same places every time. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
