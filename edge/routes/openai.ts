/**
 * The models by OpenAI's API: no object, one fetch to the gateway, its answer streamed back. The body passes through the contract's
 * schema, so that only what is allowed goes on (I11). A client that goes away aborts the fetch, which the gateway takes as a cancel: in
 * a stream at any time, before an answer's head as soon as the platform sees it leave. `wrangler dev` does not pass that on to the
 * Worker (its proxy waits in an object of its own), so that there a call that is not streamed runs to its end.
 */
import { Hono } from "hono";
import type { z } from "zod";
import { ENGINE_INTERNAL_FIELDS, chatRequest, completionRequest } from "../../schema/core/wire/chat.ts";
import { failure, toOpenAIError } from "../../schema/core/errors.ts";
import { claimsOf, type Caller } from "../door.ts";
import { signGatewayToken } from "../gateway-client-token.ts";
import { callerWith, failureResponse, parseJson, readBody, refuse, validate, type App, type Ctx } from "../http.ts";

export const openai = new Hono<App>();

/** Of the gateway's answer: what a client may see. */
const PASSED_HEADERS = ["content-type", "retry-after", "x-should-retry", "cache-control", "openai-processing-ms"];

openai.post("/v1/chat/completions", (c) => infer(c, chatRequest));
openai.post("/v1/completions", (c) => infer(c, completionRequest));
openai.get("/v1/models", (c) => models(c));
openai.get("/v1/models/:model{.+}", (c) => models(c));

async function infer(c: Ctx, schema: z.ZodType): Promise<Response> {
  const caller = await callerWith(c, "infer");
  const json = parseJson(await readBody(c));
  const internal =
    json !== null && typeof json === "object" ? ENGINE_INTERNAL_FIELDS.find((field) => Object.hasOwn(json, field)) : undefined;
  if (internal !== undefined) refuse("engine_internal_field", `${internal} is not a client's to set.`, internal);
  const body = JSON.stringify(validate(schema, json));
  return forward(c, caller, { method: "POST", body, headers: { "content-type": "application/json" } });
}

async function models(c: Ctx): Promise<Response> {
  return forward(c, await callerWith(c, "infer"), { method: "GET" });
}

async function forward(
  c: Ctx,
  caller: Caller,
  init: { method: string; body?: string; headers?: Record<string, string> },
): Promise<Response> {
  const token = await signGatewayToken(c.env.MILLRACE_CELL_SECRET, claimsOf(caller));
  const { pathname } = new URL(c.req.url);
  let answer: Response;
  try {
    answer = await fetch(new URL(pathname, c.env.GATEWAY_URL), {
      ...init,
      headers: { ...init.headers, authorization: `Bearer ${token}`, "x-request-id": c.get("request_id") },
      redirect: "manual",
      signal: c.req.raw.signal,
    });
  } catch {
    if (c.req.raw.signal.aborted) return failureResponse(c, failure("cancelled"));
    return failureResponse(c, failure("gateway_unavailable"));
  }
  const headers = new Headers();
  for (const name of PASSED_HEADERS) {
    const value = answer.headers.get(name);
    if (value !== null) headers.set(name, value);
  }
  // Compression would hold tokens back.
  const streams = headers.get("content-type")?.startsWith("text/event-stream") === true;
  if (streams) headers.set("cache-control", "no-cache, no-transform");
  const body = streams && answer.body !== null ? toldWhenCut(answer.body) : answer.body;
  return new Response(body, { status: answer.status, headers });
}

/** A whole stream ends with one, and no text of a model's can contain it: its quotes and line ends are escaped. */
const ENDS = ["data: [DONE]\n\n", 'data: {"error":'];
const TAIL_CHARS = Math.max(...ENDS.map((end) => end.length)) - 1;

/**
 * A stream that the gateway did not end (it was killed, the connection broke) would end here as a whole one does: to its client that
 * is an answer. So it ends with an error's event, and without `[DONE]`.
 */
function toldWhenCut(body: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let tail = "";
  let ended = false;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { value } = await reader.read().catch(() => ({ value: undefined }));
      if (value === undefined) {
        const why = failure("gateway_lost", "The gateway's answer was cut off.");
        // The empty line first: the cut may lie within an event.
        if (!ended) controller.enqueue(new TextEncoder().encode(`\n\ndata: ${JSON.stringify(toOpenAIError(why))}\n\n`));
        controller.close();
        return;
      }
      tail += decoder.decode(value, { stream: true });
      ended ||= ENDS.some((end) => tail.includes(end));
      tail = tail.slice(-TAIL_CHARS);
      controller.enqueue(value);
    },
    cancel: (reason) => reader.cancel(reason),
  });
}
