/** Sessions through the doors: what is refused, and with which status, before anything is upgraded. */
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { SignJWT } from "jose";
import { expect, test } from "vitest";
import { SESSION_PROTOCOL, type SessionEvent, type SessionToClient } from "../../schema/core/wire/session.ts";
import { keySocketsOf } from "../objects/key-sockets.ts";
import { a, b, bindings, deploy, problem, request, sibling } from "../testing.ts";

type Session = { session: string; function: string; version: string; connect_url: string; created_at: string };
const UPGRADE = { upgrade: "websocket", connection: "upgrade" };

async function create(key = a.all, headers: Record<string, string> = {}): Promise<Session> {
  await deploy("talk", "async (ctx) => ({ heard: ctx.input.message })", { key });
  const answer = await request("POST", "/v1/sessions", { key, body: { function: "talk" }, headers });
  expect(answer.status).toBe(201);
  return (await answer.json()) as Session;
}
const path = (session: string, rest = "") => `/v1/sessions/${session}${rest}`;
const ticketOf = async (session: string, key = a.all): Promise<string> => {
  const answer = await request("POST", path(session, "/tickets"), { key });
  expect(answer.status).toBe(201);
  expect(answer.headers.get("cache-control")).toBe("no-store");
  return (await answer.json<{ ticket: string }>()).ticket;
};

async function firstFrame(answer: Response): Promise<SessionToClient> {
  expect(answer.status).toBe(101);
  const socket = answer.webSocket!;
  const { promise, resolve } = Promise.withResolvers<string>();
  socket.addEventListener("message", (event) => resolve(String(event.data)), { once: true });
  socket.accept();
  socket.send(JSON.stringify({ type: "hello", resume_from: 0 }));
  const frame = JSON.parse(await promise) as SessionToClient;
  socket.close(1000, "enough");
  return frame;
}

test("created, read, and its log paged", async () => {
  const session = await create();
  expect(session.connect_url).toBe(`wss://edge.test/v1/sessions/${session.session}/connect`);
  expect(await (await request("GET", path(session.session), { key: a.all })).json()).toEqual(session);
  const page = await (await request("GET", path(session.session, "/events?after=0"), { key: a.all })).json();
  expect(page).toEqual({ events: [], seq: 0 });
});

test("the same Idempotency-Key is the same session; for another function or version it is refused", async () => {
  const headers = { "idempotency-key": crypto.randomUUID() };
  const first = await create(a.all, headers);
  const second = await create(a.all, headers);
  expect(second.session).toBe(first.session);
  // Another deploy in between changes nothing; asking for a version is another request.
  await deploy("talk", "async () => 'anew'");
  const repeated = await request("POST", "/v1/sessions", { key: a.all, body: { function: "talk" }, headers });
  expect(await repeated.json()).toMatchObject({ session: first.session, version: first.version });
  const versioned = await request("POST", "/v1/sessions", { key: a.all, body: { function: "talk", version: first.version }, headers });
  expect(await problem(versioned)).toMatchObject({ status: 422, code: "idempotency_mismatch" });
  await deploy("other", "async () => 1");
  const mismatch = await request("POST", "/v1/sessions", { key: a.all, body: { function: "other" }, headers });
  expect(await problem(mismatch)).toMatchObject({ status: 422, code: "idempotency_mismatch" });
});

test("connects with a key, and speaks the subprotocol", async () => {
  const { session } = await create();
  const answer = await request("GET", path(session, "/connect"), {
    key: a.all,
    headers: { ...UPGRADE, "sec-websocket-protocol": SESSION_PROTOCOL },
  });
  expect(answer.headers.get("sec-websocket-protocol")).toBe(SESSION_PROTOCOL);
  expect(await firstFrame(answer)).toEqual({ type: "welcome", session, seq: 0 });
});

test("connects with a ticket, as a browser does", async () => {
  const { session } = await create();
  const ticket = await ticketOf(session);
  const headers = { ...UPGRADE, origin: "https://edge.test" };
  expect(await firstFrame(await request("GET", path(session, `/connect?ticket=${ticket}`), { headers }))).toMatchObject({
    type: "welcome",
  });
});

test("a whole turn through the door", async () => {
  const { session } = await create();
  const answer = await request("GET", path(session, "/connect"), { key: a.all, headers: UPGRADE });
  const socket = answer.webSocket!;
  const { promise, resolve } = Promise.withResolvers<SessionEvent>();
  socket.addEventListener("message", (event) => {
    const frame = JSON.parse(String(event.data)) as SessionToClient;
    if (frame.type === "turn.done") resolve(frame);
  });
  socket.accept();
  socket.send(JSON.stringify({ type: "hello", resume_from: 0 }));
  socket.send(JSON.stringify({ type: "message", id: "m1", text: "hello" }));
  expect(await promise).toMatchObject({ output: { heard: "hello" } });
  socket.close(1000, "bye");
});

test.each<[string, () => Promise<Response>, number, string]>([
  ["no key", async () => request("GET", path((await create()).session, "/connect"), { headers: UPGRADE }), 401, "missing_key"],
  [
    "a key without the scope",
    async () => request("GET", path((await create()).session, "/connect"), { key: a.infer, headers: UPGRADE }),
    403,
    "insufficient_scope",
  ],
  [
    "another tenant's key",
    async () => request("GET", path((await create()).session, "/connect"), { key: b.all, headers: UPGRADE }),
    404,
    "session_not_found",
  ],
  [
    "no such session",
    () => request("GET", path("ses_0123456789abcdef0123456789abcdef", "/connect"), { key: a.all, headers: UPGRADE }),
    404,
    "session_not_found",
  ],
  ["no id of a session", () => request("GET", path("run_1", "/connect"), { key: a.all, headers: UPGRADE }), 404, "session_not_found"],
  ["a plain GET", async () => request("GET", path((await create()).session, "/connect"), { key: a.all }), 426, "upgrade_required"],
  [
    "a foreign Origin",
    async () =>
      request("GET", path((await create()).session, "/connect"), { key: a.all, headers: { ...UPGRADE, origin: "https://evil.test" } }),
    403,
    "foreign_origin",
  ],
  [
    "the Origin of an opaque page",
    async () => request("GET", path((await create()).session, "/connect"), { key: a.all, headers: { ...UPGRADE, origin: "null" } }),
    403,
    "foreign_origin",
  ],
  [
    "the ticket of another session",
    async () =>
      request("GET", path((await create()).session, `/connect?ticket=${await ticketOf((await create()).session)}`), { headers: UPGRADE }),
    401,
    "invalid_key",
  ],
  [
    "a ticket that is a token for the gateway",
    async () => request("GET", path((await create()).session, `/connect?ticket=${await gatewayToken()}`), { headers: UPGRADE }),
    401,
    "invalid_key",
  ],
  [
    "an empty ticket",
    async () => request("GET", path((await create()).session, "/connect?ticket="), { headers: UPGRADE }),
    401,
    "invalid_key",
  ],
  [
    "events of another tenant",
    async () => request("GET", path((await create()).session, "/events"), { key: b.all }),
    404,
    "session_not_found",
  ],
  [
    "a ticket for another tenant",
    async () => request("POST", path((await create()).session, "/tickets"), { key: b.all }),
    404,
    "session_not_found",
  ],
  [
    "a page after nonsense",
    async () => request("GET", path((await create()).session, "/events?after=-1"), { key: a.all }),
    400,
    "invalid_request",
  ],
  [
    "a session of no function",
    () => request("POST", "/v1/sessions", { key: a.all, body: { function: "nowhere" } }),
    404,
    "function_not_found",
  ],
  [
    "a session of another tenant's function",
    async () => {
      await deploy("only-a", "async () => 1");
      return request("POST", "/v1/sessions", { key: b.all, body: { function: "only-a" } });
    },
    404,
    "function_not_found",
  ],
])("%s is refused before the upgrade", async (_name, ask, status, code) => {
  const answer = await ask();
  expect(answer.webSocket ?? null).toBeNull();
  expect(answer.status).toBe(status);
  expect(await problem(answer)).toMatchObject({ status, code });
});

test.each([
  ["tenant", b],
  ["project of the same tenant", sibling],
])("another %s's session is not there, at any of its doors", async (_what, other) => {
  const { session } = await create();
  const doors: [string, string, Record<string, string>?][] = [
    ["GET", ""],
    ["GET", "/events"],
    ["GET", "/logs"],
    ["POST", "/tickets"],
    ["GET", "/connect", UPGRADE],
  ];
  for (const [method, rest, headers = {}] of doors) {
    const answer = await request(method, path(session, rest), { key: other.all, headers });
    expect([rest, answer.status, answer.webSocket ?? null]).toEqual([rest, 404, null]);
    expect(await problem(answer)).toMatchObject({ code: "session_not_found" });
  }
});

test("an expired ticket is refused", async () => {
  const { session } = await create();
  const ticket = await new SignJWT({ session, tenant: "ten_x", project: "prj_x", key: "k", scopes: ["invoke"] })
    .setProtectedHeader({ alg: "HS256" })
    .setIssuer("millrace-edge")
    .setAudience("millrace-session")
    .setExpirationTime(Math.floor(Date.now() / 1_000) - 5)
    .sign(new TextEncoder().encode(bindings.MILLRACE_CELL_SECRET));
  const answer = await request("GET", path(session, `/connect?ticket=${ticket}`), { headers: UPGRADE });
  expect(answer.status).toBe(401);
});

test("the ticket of a key that was revoked is refused", async () => {
  const { session } = await create();
  const made = await (
    await request("POST", "/v1/keys", { key: a.all, body: { name: "short", scopes: ["invoke"] } })
  ).json<{
    key: string;
    secret: string;
  }>();
  const ticket = await ticketOf(session, made.secret);
  expect((await request("DELETE", `/v1/keys/${made.key}`, { key: a.all })).status).toBe(204);
  const answer = await request("GET", path(session, `/connect?ticket=${ticket}`), { headers: UPGRADE });
  expect(await problem(answer)).toMatchObject({ status: 401, code: "revoked_key" });
});

const closeOf = (socket: WebSocket): Promise<number> =>
  new Promise((resolve) => socket.addEventListener("close", (event) => resolve(event.code), { once: true }));
async function idleSocket(session: string, key: string): Promise<WebSocket> {
  const socket = (await request("GET", path(session, "/connect"), { key, headers: UPGRADE })).webSocket!;
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.addEventListener("message", () => resolve(), { once: true });
  socket.accept();
  socket.send(JSON.stringify({ type: "hello", resume_from: 0 }));
  await promise;
  return socket;
}
const mint = async (): Promise<{ key: string; secret: string }> =>
  (await request("POST", "/v1/keys", { key: a.all, body: { name: "short", scopes: ["invoke"] } })).json();

test("a key that is revoked has its sockets closed with 4003, in sessions that sleep; others stay", async () => {
  const sessions = await Promise.all([create(), create(), create()]);
  const made = await mint();
  const closed: Promise<number>[] = [];
  const others: WebSocket[] = [];
  for (const { session } of sessions) {
    closed.push(closeOf(await idleSocket(session, made.secret)));
    others.push(await idleSocket(session, a.all));
    await evictDurableObject(bindings.SESSIONS.getByName(`${a.tenant}/${session}`));
  }
  expect((await request("DELETE", `/v1/keys/${made.key}`, { key: a.all })).status).toBe(204);
  expect(await Promise.all(closed)).toEqual([4003, 4003, 4003]);
  for (const socket of others) {
    const { promise, resolve } = Promise.withResolvers<unknown>();
    socket.addEventListener("message", (event) => resolve(event.data), { once: true });
    socket.send("ping");
    expect(await promise).toBe("pong");
    socket.close(1000, "bye");
  }
});

test("a door that still remembers a revoked key as good opens no socket", async () => {
  const { session } = await create();
  const made = await mint();
  const socket = await idleSocket(session, made.secret);
  const closed = closeOf(socket);
  expect((await request("DELETE", `/v1/keys/${made.key}`, { key: a.all })).status).toBe(204);
  // The key is in this door's memory for KEY_CACHE_MS; the session's own object has not forgotten either way.
  const again = await request("GET", path((await create()).session, "/connect"), { key: made.secret, headers: UPGRADE });
  expect([again.status, again.webSocket ?? null]).toEqual([401, null]);
  expect(await closed).toBe(4003);
});

test("what was remembered of a revocation is forgotten, and nothing stays", async () => {
  const { key } = await mint();
  const object = () => bindings.KEY_SOCKETS.getByName(`${key}/0`);
  expect((await request("DELETE", `/v1/keys/${key}`, { key: a.all })).status).toBe(204);
  expect(await object().enter("0")).toBe("revoked");
  await runInDurableObject(object(), (_object, { storage }) => void storage.sql.exec("UPDATE revoked SET forget_at_ms = 0"));
  await runDurableObjectAlarm(object());
  const tables = await runInDurableObject(object(), (_object, { storage }) =>
    storage.sql.exec<{ name: string }>("SELECT name FROM sqlite_master").toArray(),
  );
  expect(tables.filter(({ name }) => !name.startsWith("_cf"))).toEqual([]);
});

test("a session that has no socket of a key any more is not known to it", async () => {
  const { session } = await create();
  const made = await mint();
  const object = bindings.SESSIONS.idFromName(`${a.tenant}/${session}`).toString();
  const known = () =>
    runInDurableObject(keySocketsOf(bindings, made.key, object), (_object, { storage }) =>
      storage.sql
        .exec("SELECT object FROM sessions")
        .toArray()
        .map((row) => row["object"]),
    );
  const sockets = [await idleSocket(session, made.secret), await idleSocket(session, made.secret)];
  expect(await known()).toEqual([object]);
  for (const [index, socket] of sockets.entries()) {
    const closed = closeOf(socket);
    socket.close(1000, "bye");
    await closed;
    if (index === 0) expect(await known()).toEqual([object]);
  }
  while ((await known()).length > 0) await scheduler.wait(5);
});

test("each socket beyond the limit of a session is refused with 429", async () => {
  const { session } = await create();
  const open = () => request("GET", path(session, "/connect"), { key: a.all, headers: UPGRADE });
  const sockets: WebSocket[] = [];
  for (let count = 0; count < 64; count += 1) {
    const { webSocket } = await open();
    webSocket!.accept();
    sockets.push(webSocket!);
  }
  expect((await open()).status).toBe(429);
  for (const socket of sockets) socket.close(1000, "bye");
});

async function gatewayToken(): Promise<string> {
  return new SignJWT({ tenant: "ten_x", project: "prj_x", key: "k", scopes: ["invoke"] })
    .setProtectedHeader({ alg: "HS256" })
    .setIssuer("millrace-edge")
    .setAudience("millrace-gateway")
    .setExpirationTime("60s")
    .sign(new TextEncoder().encode(bindings.MILLRACE_CELL_SECRET));
}
