/**
 * What all routes share: the app's types, bodies read within a limit and validated by the schemas of the contract, and failures
 * turned into responses — OpenAI-shaped on OpenAI's paths, problem+json elsewhere.
 */
import type { Context } from "hono";
import type { z } from "zod";
import { ERRORS, failure, toOpenAIError, toProblem, type ErrorCode, type Failure } from "../schema/core/errors.ts";
import { BODY_BYTES_MAX, JSON_DEPTH_MAX } from "../schema/core/wire/limits.ts";
import type { Scope } from "../schema/core/wire/token.ts";
import { admit, mayNot, type Caller } from "./door.ts";
import type { Env } from "./env.ts";
import { depthOf } from "./runtime/json-depth.ts";

export type App = { Bindings: Env; Variables: { request_id: string; caller: Caller } };
export type Ctx = Context<App>;

/** A failure on its way to the outermost layer: thrown by the helpers below, turned into a response by the app's error handler. */
export class Refusal extends Error {
  readonly error: Failure;
  readonly headers: Readonly<Record<string, string>>;

  constructor(error: Failure, headers: Readonly<Record<string, string>> = {}) {
    super(error.code);
    this.error = error;
    this.headers = headers;
  }
}

export const refuse = (code: ErrorCode, detail?: string, param?: string): never => {
  throw new Refusal(failure(code, detail, param));
};

const OPENAI_PATHS =
  /^\/v1\/(chat\/completions|completions|models|embeddings|responses|moderations|images|audio|files|batches|fine_tuning)(\/|$)/;
export const isOpenAIPath = (path: string): boolean => OPENAI_PATHS.test(path);

const RETRY_AFTER_S = 1;

export function failureResponse(c: Ctx, error: Failure, headers: Readonly<Record<string, string>> = {}, more: object = {}): Response {
  const openai = isOpenAIPath(c.req.path);
  const { status } = ERRORS[error.code];
  const body = openai ? toOpenAIError(error) : { ...toProblem(error, c.get("request_id")), ...more };
  return new Response(JSON.stringify(body), {
    status,
    headers: {
      "content-type": openai ? "application/json" : "application/problem+json",
      ...(status === 401 ? { "www-authenticate": 'Bearer realm="millrace"' } : {}),
      ...(status === 429 || status === 503 ? { "retry-after": String(RETRY_AFTER_S) } : {}),
      ...headers,
    },
  });
}

/** Verifies the key and its scope. */
export async function callerWith(c: Ctx, scope: Scope): Promise<Caller> {
  const admission = await admit(c.env, c.req.header("authorization"), Date.now());
  if (!admission.ok) throw new Refusal(admission.error);
  const missing = mayNot(admission.caller, scope);
  if (missing) throw new Refusal(missing);
  c.set("caller", admission.caller);
  return admission.caller;
}

/** Read and thrown away of a body beyond the limit; whoever sends more, or takes longer, may lose the answer with the connection. */
const BODY_DRAIN_BYTES_MAX = 33_554_432;
const BODY_DRAIN_MS_MAX = 5_000;

/**
 * Reads on for a bounded while: a body that is cancelled under a client that still writes breaks the connection, in local workerd
 * one hop before the client too, and the refusal is lost with it.
 */
async function drain(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const bound = setTimeout(resolve, BODY_DRAIN_MS_MAX);
  const read = async () => {
    for (let bytes = 0; bytes <= BODY_DRAIN_BYTES_MAX;) {
      const { done, value } = await reader.read();
      if (done) return;
      bytes += value.byteLength;
    }
  };
  // A body that breaks off is over.
  await Promise.race([read().catch(() => undefined), late]);
  clearTimeout(bound);
}

/** The body's bytes, kept no further than the limit. */
export async function readBody(c: Ctx, bytes_max = BODY_BYTES_MAX): Promise<Uint8Array> {
  const too_large = () => refuse("body_too_large", `The limit is ${bytes_max} bytes.`);
  if (Number(c.req.header("content-length") ?? 0) > bytes_max) too_large();
  const encoding = c.req.header("content-encoding");
  if (encoding !== undefined && encoding !== "identity") refuse("unsupported_media_type", "Send the body without a content encoding.");
  const type = c.req.header("content-type");
  if (type !== undefined && !/^application\/(?:[\w.-]+\+)?json\s*(;|$)/i.test(type)) refuse("unsupported_media_type");
  if (!c.req.raw.body) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  const reader = (c.req.raw.body as ReadableStream<Uint8Array>).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    bytes += value.byteLength;
    if (bytes > bytes_max) {
      chunks.length = 0;
      await drain(reader);
      too_large();
    }
    chunks.push(value);
  }
  const body = new Uint8Array(bytes);
  let at = 0;
  for (const chunk of chunks) {
    body.set(chunk, at);
    at += chunk.byteLength;
  }
  return body;
}

export function parseJson(bytes: Uint8Array): unknown {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(bytes);
  } catch {
    return refuse("malformed_json", "The body is not UTF-8.");
  }
  if (depthOf(text) > JSON_DEPTH_MAX) return refuse("malformed_json", `The body is nested deeper than ${JSON_DEPTH_MAX}.`);
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return refuse("malformed_json");
  }
}

export async function jsonBody<S extends z.ZodType>(c: Ctx, schema: S, bytes_max?: number): Promise<z.infer<S>> {
  return validate(schema, parseJson(await readBody(c, bytes_max)));
}

export function validate<S extends z.ZodType>(schema: S, value: unknown): z.infer<S> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const param = issue?.path.join(".") ?? "";
  return refuse("invalid_request", `${param === "" ? "body" : param}: ${issue?.message ?? "wrong"}`, param === "" ? undefined : param);
}

export const instant = (ms: number): string => new Date(ms).toISOString();
