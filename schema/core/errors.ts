/**
 * The one error catalogue: every error a client can meet, with its HTTP status, whether a retry may help,
 * and what to do. `docs/errors.md` is tested against it. The same code appears in problem+json (`code`),
 * in OpenAI-shaped errors (`error.code`), in link and session frames, and in call outcomes.
 */
type Entry = {
  readonly status: number;
  readonly retryable: boolean;
  readonly title: string;
  readonly what_to_do: string;
};

const entry = (status: number, retryable: boolean, title: string, what_to_do: string): Entry => ({
  status,
  retryable,
  title,
  what_to_do,
});

export const ERRORS = {
  // the request itself
  malformed_json: entry(400, false, "The body is not valid JSON", "Send a JSON object, UTF-8 encoded."),
  invalid_request: entry(400, false, "A field has a wrong value", "See `detail` (or `param`): it names the field and what was expected."),
  engine_internal_field: entry(
    400,
    false,
    "The request carries an engine-internal field",
    "Remove the field named in `param`; only the gateway may set it.",
  ),
  body_too_large: entry(413, false, "The body is larger than the limit", "Send at most the number of bytes that `detail` names."),
  not_found: entry(404, false, "There is nothing at this address", "Check the path and the id; see /openapi.json."),
  method_not_allowed: entry(405, false, "The path exists, but not with this method", "Use a method that the `Allow` header names."),
  unsupported_media_type: entry(415, false, "The content type is not supported", "Send `Content-Type: application/json`."),
  upgrade_required: entry(426, false, "This address speaks WebSocket", "Connect with a WebSocket client."),
  // who asks
  missing_key: entry(401, false, "No API key was sent", "Send `Authorization: Bearer mr_…`."),
  invalid_key: entry(401, false, "The API key is unknown or malformed", "Check the key; create one with `millrace keys create`."),
  revoked_key: entry(401, false, "The API key was revoked or has expired", "Use another key; create one with `millrace keys create`."),
  insufficient_scope: entry(403, false, "The key lacks a scope that this needs", "Create a key with the scope that `detail` names."),
  foreign_origin: entry(403, false, "The Origin is not allowed", "Connect from an allowed origin."),
  // idempotency
  idempotency_in_flight: entry(409, true, "The same Idempotency-Key is being worked on", "Wait, then send the same request again."),
  idempotency_mismatch: entry(422, false, "The Idempotency-Key was used with another body", "Use a new key for a new request."),
  // functions, runs, sessions
  function_not_found: entry(404, false, "No such function", "Deploy it, or check its name."),
  run_not_found: entry(404, false, "No such run", "Check the id; runs of other tenants are not visible."),
  session_not_found: entry(404, false, "No such session", "Check the id; sessions of other tenants are not visible."),
  function_invalid: entry(400, false, "The function cannot be loaded", "See `detail` for the compiler's or loader's message."),
  function_threw: entry(500, false, "The function threw an error", "See `detail` and the run's log."),
  function_timeout: entry(
    504,
    false,
    "The function did not settle within its time limit",
    "Make it faster, or deploy it with a larger `timeout_ms`.",
  ),
  result_not_serializable: entry(
    500,
    false,
    "The function returned something that is not JSON",
    "Return plain data: objects, arrays, strings, numbers, booleans, null.",
  ),
  egress_forbidden: entry(403, false, "The function fetched a host that is not allowed", "Name the host in the function's `egress` list."),
  capability_denied: entry(403, false, "The function used something it was not given", "Use only the capabilities of its own run."),
  nondeterministic_step: entry(
    500,
    false,
    "On replay a step asked for something else than before",
    "Keep the order and the input of steps the same across replays.",
  ),
  too_many_steps: entry(429, false, "The run has more steps than the limit", "Split the work into several runs."),
  turn_in_progress: entry(409, true, "The session is busy with a turn", "Wait for `turn.done`, or cancel the turn."),
  // models and capacity
  model_not_found: entry(404, false, "No such model", "See /v1/models for those served."),
  context_too_long: entry(400, false, "Prompt and answer together exceed the model's context", "Shorten the prompt or lower `max_tokens`."),
  queue_full: entry(429, true, "The queue for this model is full", "Retry after the time in `Retry-After`."),
  slo_unattainable: entry(
    429,
    true,
    "The answer could not begin, or not go on, as fast as this model promises",
    "Retry after the time in `Retry-After`, or ask another model.",
  ),
  rate_limited: entry(429, true, "Too many requests", "Retry after the time in `Retry-After`."),
  deadline_exceeded: entry(504, true, "The call did not finish before its deadline", "Retry, or allow more time."),
  budget_exhausted: entry(402, false, "The budget is spent", "Raise the budget; partial output is kept."),
  no_capacity: entry(503, true, "No instance can serve this model now", "Retry after the time in `Retry-After`."),
  engine_failed: entry(502, true, "The engine failed while it worked on the call", "Retry; partial output, if any, was sent."),
  engine_rejected: entry(400, false, "The engine refused the request", "See `detail` for the engine's message."),
  gateway_lost: entry(502, true, "The gateway restarted after the answer had begun", "Retry; what was sent is partial."),
  gateway_unavailable: entry(503, true, "The gateway cannot be reached", "Retry after the time in `Retry-After`."),
  cancelled: entry(499, false, "The call was cancelled", "Nothing to do: the caller asked for it."),
  // frames
  malformed_frame: entry(400, false, "The frame is not one of the protocol's", "Send a JSON object with a known `type`."),
  unsupported_version: entry(400, false, "The protocol version is not spoken here", "Use a version that `detail` names."),
  slow_reader: entry(
    429,
    true,
    "The client did not acknowledge what it was sent",
    "Read faster, acknowledge, reconnect with the last `seq`.",
  ),
  // us
  database_unavailable: entry(503, true, "The database cannot be reached", "Retry after a moment."),
  internal: entry(500, true, "Something of ours failed", "Retry; report `request_id` if it stays."),
} as const satisfies Record<string, Entry>;

export type ErrorCode = keyof typeof ERRORS;

/** An error as data. Outcomes carry it; only the outermost layer turns it into a response. */
export type Failure = {
  readonly code: ErrorCode;
  /** What was wrong in this case, for a person. Never a stack, a path or a secret. */
  readonly detail?: string;
  /** The offending field, if one is. */
  readonly param?: string;
};

export const failure = (code: ErrorCode, detail?: string, param?: string): Failure => ({
  code,
  ...(detail === undefined ? {} : { detail }),
  ...(param === undefined ? {} : { param }),
});

/** RFC 9457 problem details. */
export function toProblem(f: Failure, request_id?: string) {
  const e = ERRORS[f.code];
  return {
    type: `https://millrace.dev/errors#${f.code}`,
    title: e.title,
    status: e.status,
    code: f.code,
    detail: f.detail ?? e.what_to_do,
    what_to_do: e.what_to_do,
    retryable: e.retryable,
    ...(f.param === undefined ? {} : { param: f.param }),
    ...(request_id === undefined ? {} : { request_id }),
  };
}

/** OpenAI's error body, for the OpenAI paths. `type` follows what their SDKs expect. */
export function toOpenAIError(f: Failure) {
  const e = ERRORS[f.code];
  const type =
    e.status === 401
      ? "authentication_error"
      : e.status === 403
        ? "permission_error"
        : e.status === 429
          ? "rate_limit_error"
          : e.status === 402
            ? "insufficient_quota"
            : e.status < 500
              ? "invalid_request_error"
              : "server_error";
  return { error: { message: f.detail ?? `${e.title}. ${e.what_to_do}`, type, param: f.param ?? null, code: f.code } };
}
