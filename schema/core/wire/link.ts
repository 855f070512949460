/**
 * The link: one WebSocket between an edge object (Run or AgentSession) and a gateway, multiplexing model calls.
 *
 * Handshake: GET /link with `Sec-WebSocket-Protocol: millrace.link.v1` and `Authorization: Bearer <link token>`
 * (see token.ts). The first frame from the edge is `hello`, the first from the gateway `welcome`. Text frames, one JSON
 * object each. A call's output frames are numbered from 1 by `n`, per call, without gaps: `token` frames and the final
 * `done` or `refused` each take a number. A frame outside the token's tenant and scopes is answered `refused`.
 *
 * A broken link keeps a call's output for LINK_RESUME_WINDOW_MS. After reconnecting the edge sends the same `call` again
 * with `from` = the last `n` it has stored (0 for none). A gateway that knows the call attaches and sends what is after
 * `from`. A gateway that does not know it (it restarted) runs it when `from` is 0, else refuses with `gateway_lost`.
 */
import { z } from "zod";
import { ERRORS, type ErrorCode } from "../errors.ts";
import { ID_PATTERN } from "../ids.ts";
import { chatRequest, completionRequest, tokenUsage } from "./chat.ts";
import { STEP_CHARS_MAX } from "./limits.ts";

export const LINK_PROTOCOL = "millrace.link.v1";

const id = z.string().regex(ID_PATTERN);
const error_code = z.enum(Object.keys(ERRORS) as [ErrorCode, ...ErrorCode[]]);
export const wireFailure = z.object({ code: error_code, detail: z.string().optional(), param: z.string().optional() });

/** Who and what a call is for: set by the edge, never by user code. Tenant and project come from the token. */
export const callContext = z.object({
  program: id,
  run: id.optional(),
  session: id.optional(),
  function: id.optional(),
  version: id.optional(),
  step: z.string().max(STEP_CHARS_MAX),
  agent: z.string().max(128).optional(),
  /** Milliseconds from arrival within which the call must end. */
  deadline_ms: z.int().min(1).max(900_000),
});
export type CallContext = z.infer<typeof callContext>;

export const linkFromEdge = z.discriminatedUnion("type", [
  z.object({ type: z.literal("hello"), versions: z.array(z.int()).min(1), link: id }),
  z.object({
    type: z.literal("call"),
    call: id,
    from: z.int().min(0),
    context: callContext,
    kind: z.enum(["chat", "completion"]),
    body: z.union([chatRequest, completionRequest]),
  }),
  z.object({ type: z.literal("cancel"), call: id, reason: z.string().max(128) }),
  /** All frames of the call up to `n` are durable at the edge. */
  z.object({ type: z.literal("credit"), call: id, n: z.int().min(0) }),
  z.object({ type: z.literal("ping"), t: z.number() }),
]);
export type LinkFromEdge = z.infer<typeof linkFromEdge>;

export const linkFromGateway = z.discriminatedUnion("type", [
  z.object({ type: z.literal("welcome"), version: z.int(), cell: id, epoch: z.int() }),
  z.object({ type: z.literal("accepted"), call: id }),
  z.object({ type: z.literal("queued"), call: id, position: z.int().min(0) }),
  /** `delta` is an OpenAI chat delta (role, content, tool_calls) or, for completions, `{content}`. `tokens`: how many it holds. */
  z.object({
    type: z.literal("token"),
    call: id,
    n: z.int().min(1),
    choice: z.int().min(0),
    delta: z.record(z.string(), z.unknown()),
    tokens: z.int().min(0),
    logprobs: z.unknown().optional(),
    finish_reason: z.string().optional(),
  }),
  z.object({
    type: z.literal("done"),
    call: id,
    n: z.int().min(1),
    finish_reason: z.string(),
    usage: tokenUsage,
    legs: z.array(z.object({ leg: id, role: z.enum(["prefill", "decode", "whole"]), instance: id })),
  }),
  /** The call ended without being done; `emitted` is how many tokens had been sent (0: none). */
  z.object({
    type: z.literal("refused"),
    call: id,
    n: z.int().min(1),
    error: wireFailure,
    emitted: z.int().min(0),
    usage: tokenUsage.optional(),
    retry_after_ms: z.int().optional(),
  }),
  z.object({ type: z.literal("fault"), error: wireFailure }),
  z.object({ type: z.literal("pong"), t: z.number() }),
]);
export type LinkFromGateway = z.infer<typeof linkFromGateway>;
