/**
 * The session protocol: WebSocket at /v1/sessions/{id}/connect, subprotocol `millrace.session.v1`.
 * Authentication before the upgrade: `Authorization: Bearer`, or, for browsers, a short-lived ticket in `?ticket=`
 * (POST /v1/sessions/{id}/tickets). Text frames of one JSON object. `ping`/`pong` (the literal texts) are answered by the
 * platform without waking the object.
 *
 * The client's first frame is `hello {resume_from}`: the last `seq` it has (0: everything). The answer is `welcome {seq,
 * truncated_before?}`: `seq` is the last one written, `truncated_before` says that events below it are gone. Then come all
 * events with seq > resume_from, in order, without gap or repeat, and then live ones (I4). A `resume_from` beyond the last one is no
 * place of this session: it is `refused` with `invalid_request` and `param: "resume_from"`, and the socket awaits another hello. A `message` carries the client's own
 * `id`: sending it again changes nothing.
 */
import { z } from "zod";
import { ID_PATTERN } from "../ids.ts";
import { tokenUsage } from "./chat.ts";
import { SESSION_MESSAGE_CHARS_MAX } from "./limits.ts";
import { wireFailure } from "./link.ts";

export const SESSION_PROTOCOL = "millrace.session.v1";
const id = z.string().regex(ID_PATTERN);

export const sessionFromClient = z.discriminatedUnion("type", [
  z.object({ type: z.literal("hello"), resume_from: z.int().min(0) }),
  z.object({ type: z.literal("message"), id, text: z.string().min(1).max(SESSION_MESSAGE_CHARS_MAX) }),
  z.object({ type: z.literal("cancel"), turn: id.optional() }),
  /** Everything up to `seq` has been seen. */
  z.object({ type: z.literal("ack"), seq: z.int().min(0) }),
]);
export type SessionFromClient = z.infer<typeof sessionFromClient>;

/** What stands in the session's log. `seq` counts from 1. `at_ms` is UTC. */
const logged = { seq: z.int().min(1), at_ms: z.int() };
export const sessionEvent = z.discriminatedUnion("type", [
  z.object({ ...logged, type: z.literal("message"), id, text: z.string() }),
  z.object({ ...logged, type: z.literal("turn.started"), turn: id, message: id }),
  z.object({
    ...logged,
    type: z.literal("step"),
    turn: id,
    path: z.string(),
    agent: z.string().optional(),
    status: z.enum(["started", "done", "failed"]),
    error: wireFailure.optional(),
  }),
  z.object({ ...logged, type: z.literal("delta"), turn: id, step: z.string(), agent: z.string().optional(), text: z.string() }),
  z.object({ ...logged, type: z.literal("event"), turn: id, name: z.string(), data: z.unknown() }),
  z.object({ ...logged, type: z.literal("usage"), turn: id, call: id, agent: z.string().optional(), usage: tokenUsage }),
  z.object({ ...logged, type: z.literal("turn.done"), turn: id, output: z.unknown() }),
  z.object({ ...logged, type: z.literal("error"), turn: id.optional(), error: wireFailure, partial: z.boolean() }),
]);
export type SessionEvent = z.infer<typeof sessionEvent>;

export const sessionToClient = z.union([
  z.object({ type: z.literal("welcome"), session: id, seq: z.int().min(0), truncated_before: z.int().optional() }),
  /** Not logged: the client's frame was wrong, or the session cannot take it now. */
  z.object({ type: z.literal("refused"), error: wireFailure, id: z.string().optional() }),
  sessionEvent,
]);
export type SessionToClient = z.infer<typeof sessionToClient>;
