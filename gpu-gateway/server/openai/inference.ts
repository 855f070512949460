/** POST /v1/chat/completions and /v1/completions: who asks, for what, then the runtime; the answer streams or waits. */
import type { IncomingMessage } from "node:http";
import { failure } from "../../../schema/core/errors.ts";
import { asId, callId, type CallId } from "../../../schema/core/ids.ts";
import { callContext, type CallContext } from "../../../schema/core/wire/link.ts";
import type { CallTags } from "../../policy/metering/records.ts";
import type { CallKind, KnownCall } from "../../runtime/calls.ts";
import { refuseUnread, sendFailure, type Exchange } from "../answer.ts";
import { lacksScope, type Credential } from "../auth.ts";
import { parseJson, parseModelRequest, readBody, type Outcome } from "../body.ts";
import type { Doors } from "../doors.ts";
import { CONTEXT_HEADER_BYTES_MAX } from "../limits.ts";
import { newCallId } from "../random.ts";
import { answerWhenDone, streamAnswer } from "./readers.ts";

export async function serveInference(doors: Doors, kind: CallKind, request: IncomingMessage, exchange: Exchange): Promise<void> {
  const auth = await doors.auth.authenticate(request.headers.authorization);
  if (auth.type === "refused") return refuseUnread(request, exchange, auth.failure);
  const { credential } = auth;
  const lacks = lacksScope(credential, "infer");
  if (lacks !== null) return refuseUnread(request, exchange, lacks);
  const body = await readBody(request);
  if (body.type === "gone") return;
  if (body.type === "refused") return refuseUnread(request, exchange, body.failure);
  const json = parseJson(body.value);
  const parsed = json.type === "ok" ? parseModelRequest(kind, json.value) : json;
  if (parsed.type === "refused") return sendFailure(exchange, parsed.failure);
  const context = contextOf(request, credential);
  if (context.type === "refused") return sendFailure(exchange, context.failure);

  const call_id = context.value === null ? newCallId() : callId(asId<"program">(context.value.program), context.value.step);
  const submission = doors.runtime.submit({
    call_id,
    tags: tagsOf(credential, parsed.value.model, call_id, context.value),
    kind,
    body: parsed.value,
    deadline_ms: context.value?.deadline_ms ?? doors.deadline_ms_default,
    resumable: context.value !== null,
  });
  if (submission.type === "refused") return sendFailure(exchange, submission.failure, submission);
  const { call } = submission;
  if (!call.output.has(0)) return sendFailure(exchange, failure("gateway_lost", "the beginning of this call's output is gone"));
  const on_left = (left: KnownCall) => {
    if (left.output.readers === 0) doors.runtime.cancel(left.call.call_id, "client_disconnected");
  };
  if (parsed.value.stream === true) streamAnswer(exchange, call, parsed.value.stream_options?.include_usage === true, on_left);
  else answerWhenDone(exchange, call, on_left);
}

/** Identity comes from the credential; what the call is for is believed only from the edge's own token. */
export function tagsOf(credential: Credential, model: string, call_id: CallId, context: CallContext | null): CallTags {
  const { tenant, project, key } = credential.claims;
  return {
    tenant,
    project,
    key,
    model,
    program: context?.program ?? call_id,
    function: context?.function ?? null,
    version: context?.version ?? null,
    run: context?.run ?? null,
    session: context?.session ?? null,
    agent: context?.agent ?? null,
  };
}

/** `x-millrace-context`: base64url of the JSON of a call context. From anyone but the edge it is ignored. */
function contextOf(request: IncomingMessage, credential: Credential): Outcome<CallContext | null> {
  const header = request.headers["x-millrace-context"];
  if (header === undefined || credential.kind !== "token") return { type: "ok", value: null };
  const wrong = (detail: string): Outcome<never> => ({
    type: "refused",
    failure: failure("invalid_request", `x-millrace-context: ${detail}`),
  });
  if (typeof header !== "string" || header.length > CONTEXT_HEADER_BYTES_MAX)
    return wrong(`one header of at most ${CONTEXT_HEADER_BYTES_MAX} bytes`);
  try {
    const parsed = callContext.safeParse(JSON.parse(Buffer.from(header, "base64url").toString("utf8")));
    return parsed.success ? { type: "ok", value: parsed.data } : wrong(parsed.error.issues[0]?.message ?? "not a call context");
  } catch {
    return wrong("not base64url of JSON");
  }
}
