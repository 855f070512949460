/** Sessions through the doors: what is refused, and with which status, before anything is upgraded. */
import { SignJWT } from "jose";
import { expect, test } from "vitest";
import { SESSION_PROTOCOL, type SessionEvent, type SessionToClient } from "../../schema/core/wire/session.ts";
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
