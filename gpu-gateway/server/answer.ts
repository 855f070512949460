/** The outermost layer of an HTTP answer: a failure becomes a status and a body of the shape that its path promises. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { ERRORS, toOpenAIError, toProblem, type Failure } from "../../schema/core/errors.ts";
import { drainBody } from "./body.ts";

/** One request, as every route sees it. */
export type Exchange = {
  readonly request_id: string;
  readonly response: ServerResponse;
  /** The path's own error shape: OpenAI's on the OpenAI paths, problem+json elsewhere. */
  readonly openai: boolean;
};

export function sendJson({ response, request_id }: Exchange, status: number, body: unknown, headers: Record<string, string> = {}): void {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(text),
    "x-request-id": request_id,
    ...headers,
  });
  response.end(text);
}

export function sendFailure(
  exchange: Exchange,
  failure: Failure,
  more: { readonly retry_after_ms?: number | null; readonly headers?: Record<string, string> } = {},
): void {
  const { response, request_id, openai } = exchange;
  if (response.headersSent || response.destroyed) return;
  const { status, retryable } = ERRORS[failure.code];
  const headers: Record<string, string> = { ...more.headers };
  if (status === 401) headers["www-authenticate"] = 'Bearer realm="millrace"';
  if (status === 429 || status === 503) headers["retry-after"] = String(Math.max(1, Math.ceil((more.retry_after_ms ?? 1_000) / 1_000)));
  // OpenAI's own client retries by status; where ours says that it is of no use, it is told.
  if (openai && !retryable && status >= 429) headers["x-should-retry"] = "false";
  if (openai) return sendJson(exchange, status, toOpenAIError(failure), headers);
  sendJson(exchange, status, toProblem(failure, request_id), { ...headers, "content-type": "application/problem+json" });
}

/** Refuses a request whose body nobody has read: it is thrown away first, and a connection with a rest on it is not used again. */
export async function refuseUnread(
  request: IncomingMessage,
  exchange: Exchange,
  why: Failure,
  headers: Record<string, string> = {},
): Promise<void> {
  await drainBody(request);
  sendFailure(exchange, why, { headers: request.complete ? headers : { ...headers, connection: "close" } });
}
