/**
 * Sessions over HTTP, and the door of their WebSocket. Whatever can be refused is refused before the upgrade, with a status that a
 * client can read. A session's object is named with its tenant, so that another tenant's id reaches an object that is empty (I3).
 */
import { Hono } from "hono";
import type { z } from "zod";
import { failure } from "../../schema/core/errors.ts";
import { hashParts } from "../../schema/core/hash.ts";
import { deriveId, ID_PATTERN, randomId, type SessionId } from "../../schema/core/ids.ts";
import {
  sessionCreate,
  type session as sessionSchema,
  type sessionLogList,
  type ticket as ticketSchema,
} from "../../schema/core/wire/http.ts";
import { findKey } from "../../schema/db/queries/keys/find-key.ts";
import { withDatabase } from "../database.ts";
import { claimsOf, expiryOf, mayNot, type Caller } from "../door.ts";
import { resolveFunction } from "../functions.ts";
import { callerWith, failureResponse, instant, jsonBody, Refusal, refuse, type App, type Ctx } from "../http.ts";
import { CALLER_HEADER, type AgentSession, type SocketCaller } from "../objects/agent-session.ts";
import type { SessionIdentity } from "../objects/session-store.ts";
import { afterOf } from "./runs.ts";
import { issueTicket, readTicket } from "./session-tickets.ts";

export const sessions = new Hono<App>();

const IDEMPOTENCY_KEY_PATTERN = /^[\x21-\x7e]{1,255}$/;

/** With an Idempotency-Key, the same key and body are the same session, however often it is sent, whatever was deployed meanwhile. */
sessions.post("/v1/sessions", async (c) => {
  const { tenant, project } = await callerWith(c, "invoke");
  const body = await jsonBody(c, sessionCreate);
  const found = await resolveFunction(c.env, { tenant, project, name: body.function, version: body.version });
  if (!found) throw new Refusal(failure("function_not_found"));
  const idempotency_key = c.req.header("idempotency-key");
  if (idempotency_key !== undefined && !IDEMPOTENCY_KEY_PATTERN.test(idempotency_key)) {
    refuse("invalid_request", "An Idempotency-Key is 1 to 255 visible characters.", "Idempotency-Key");
  }
  const session: SessionId =
    idempotency_key === undefined
      ? randomId("session", crypto.getRandomValues(new Uint8Array(16)))
      : deriveId("session", tenant, project, idempotency_key);
  const asked = hashParts("session", found.function, body.version ?? "");
  const { identity } = await objectOf(c, tenant, session).create({
    session,
    tenant,
    project,
    function: found.function,
    function_name: found.name,
    version: found.version,
    code_hash: found.code_hash,
    config_hash: found.config_hash,
    config: found.config,
    created_at_ms: Date.now(),
    request: asked,
  });
  // A session of before requests were kept is known by its function alone.
  const matches = identity.request === undefined ? identity.function === found.function : identity.request === asked;
  if (!matches) refuse("idempotency_mismatch");
  return c.json(sessionBody(c, identity), 201, { location: `/v1/sessions/${session}` });
});

sessions.get("/v1/sessions/:session", async (c) => {
  const { identity } = await reach(c, await callerWith(c, "invoke"));
  return c.json(sessionBody(c, identity));
});

sessions.get("/v1/sessions/:session/events", async (c) => {
  const { object } = await reach(c, await callerWith(c, "invoke"));
  return new Response(await object.events(afterOf(c, "an event")), { headers: { "content-type": "application/json" } });
});

sessions.get("/v1/sessions/:session/logs", async (c) => {
  const { object, identity } = await reach(c, await callerWith(c, "invoke"));
  const { lines, seq, dropped } = await object.logs(afterOf(c, "a line"));
  const { session } = identity;
  const body: z.infer<typeof sessionLogList> = {
    lines: lines.map(({ turn, seq, at_ms, level, text }) => ({ session, turn, seq, at: instant(at_ms), level, text })),
    seq,
    dropped,
  };
  return c.json(body);
});

sessions.post("/v1/sessions/:session/tickets", async (c) => {
  const caller = await callerWith(c, "invoke");
  const { identity } = await reach(c, caller);
  const { ticket, expires_at_ms } = await issueTicket(c.env.MILLRACE_CELL_SECRET, identity.session, caller, Date.now());
  const body: z.infer<typeof ticketSchema> = { ticket, expires_at: instant(expires_at_ms) };
  return c.json(body, 201, { "cache-control": "no-store" });
});

sessions.get("/v1/sessions/:session/connect", async (c) => {
  const caller = await callerOfSocket(c);
  if (!originIsAllowed(c)) refuse("foreign_origin");
  const { object } = await reach(c, caller);
  if (c.req.header("upgrade")?.toLowerCase() !== "websocket") {
    return failureResponse(c, failure("upgrade_required"), { upgrade: "websocket", connection: "upgrade" });
  }
  // A request of our own making: nothing that a client sent reaches the object but the protocol that it offers.
  const { expires_at_ms } = caller;
  const let_in: SocketCaller = { claims: claimsOf(caller), ...(expires_at_ms === undefined ? {} : { expires_at_ms }) };
  const headers = new Headers({ upgrade: "websocket", [CALLER_HEADER]: JSON.stringify(let_in) });
  const offered = c.req.header("sec-websocket-protocol");
  if (offered !== undefined) headers.set("sec-websocket-protocol", offered);
  const answer = await object.fetch("https://session/connect", { headers });
  if (answer.status === 401) refuse("revoked_key");
  if (answer.status === 429) refuse("rate_limited", "The session has as many open sockets as it may have.");
  return answer;
});

/** A key in the header, or a ticket in the query. */
async function callerOfSocket(c: Ctx): Promise<Caller> {
  const ticket = c.req.query("ticket");
  if (ticket === undefined || c.req.header("authorization") !== undefined) return callerWith(c, "invoke");
  const read = await readTicket(c.env.MILLRACE_CELL_SECRET, c.req.param("session") ?? "", ticket);
  if (!read.ok) throw new Refusal(read.error);
  const missing = mayNot(read.caller, "invoke");
  if (missing) throw new Refusal(missing);
  // A ticket is worth what its key is worth now.
  const record = await withDatabase(c.env.DB, (sql) => findKey(sql, read.caller.key));
  if (!record || record.revoked || record.expired) return refuse("revoked_key");
  return { ...read.caller, ...expiryOf(record, Date.now()) };
}

/** Programs send no Origin. A page may connect from where the edge itself is served, or from an origin that is listed. */
function originIsAllowed(c: Ctx): boolean {
  const origin = c.req.header("origin");
  if (origin === undefined) return true;
  const listed = (c.env.MILLRACE_ORIGINS ?? "").split(",").map((entry) => entry.trim());
  return origin === new URL(c.req.url).origin || listed.includes(origin);
}

async function reach(c: Ctx, caller: Caller): Promise<{ object: DurableObjectStub<AgentSession>; identity: SessionIdentity }> {
  const id = c.req.param("session") ?? "";
  if (!id.startsWith("ses_") || !ID_PATTERN.test(id)) refuse("session_not_found");
  const object = objectOf(c, caller.tenant, id);
  const identity = await object.describe();
  if (!identity || identity.project !== caller.project) throw new Refusal(failure("session_not_found"));
  return { object, identity };
}

function objectOf(c: Ctx, tenant: string, session: string): DurableObjectStub<AgentSession> {
  return c.env.SESSIONS.getByName(`${tenant}/${session}`);
}

function sessionBody(c: Ctx, identity: SessionIdentity): z.infer<typeof sessionSchema> {
  const { session, function_name, version, created_at_ms } = identity;
  const { protocol, host } = new URL(c.req.url);
  return {
    session,
    function: function_name,
    version,
    connect_url: `${protocol === "https:" ? "wss" : "ws"}://${host}/v1/sessions/${session}/connect`,
    created_at: instant(created_at_ms),
  };
}
