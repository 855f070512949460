/**
 * Reading a request body and finding in it what a client may send, and nothing else (I11). Everything that is wrong is said as
 * a failure; nothing is repaired silently but unknown fields, which are dropped.
 */
import { isUtf8 } from "node:buffer";
import type { IncomingMessage } from "node:http";
import type { z } from "zod";
import { failure, type Failure } from "../../schema/core/errors.ts";
import {
  chatRequest,
  completionRequest,
  ENGINE_INTERNAL_FIELDS,
  type ChatRequest,
  type CompletionRequest,
} from "../../schema/core/wire/chat.ts";
import { BODY_BYTES_MAX, JSON_DEPTH_MAX } from "../../schema/core/wire/limits.ts";
import type { CallKind } from "../runtime/calls.ts";
import { BODY_DRAIN_BYTES_MAX, BODY_DRAIN_MS_MAX } from "./limits.ts";

export type Outcome<T> = { readonly type: "ok"; readonly value: T } | { readonly type: "refused"; readonly failure: Failure };
const ok = <T>(value: T): Outcome<T> => ({ type: "ok", value });
const refuse = (why: Failure): { readonly type: "refused"; readonly failure: Failure } => ({ type: "refused", failure: why });

/** `gone`: the client left before its body was complete. After `body_too_large` the connection must be closed. */
export type BodyOutcome = Outcome<Buffer> | { readonly type: "gone" };

export function readBody(request: IncomingMessage): Promise<BodyOutcome> {
  const wrong = wrongHeaders(request);
  if (wrong !== null) return Promise.resolve(refuse(wrong));
  const { promise, resolve } = Promise.withResolvers<BodyOutcome>();
  const chunks: Buffer[] = [];
  let bytes = 0;
  const onData = (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= BODY_BYTES_MAX) {
      chunks.push(chunk);
      return;
    }
    request.off("data", onData);
    chunks.length = 0;
    resolve(refuse(tooLarge()));
  };
  request.on("data", onData);
  request.once("end", () => resolve(ok(chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks))));
  request.once("error", () => resolve({ type: "gone" }));
  request.once("close", () => resolve({ type: "gone" }));
  return promise;
}

/**
 * Reads on, throwing away, for a bounded while: a connection that is closed under a client that still writes resets it, and the
 * answer is lost with it. Resolves when the body is over or the bound is met; then answer and close.
 */
export function drainBody(request: IncomingMessage): Promise<void> {
  if (request.complete) return Promise.resolve();
  const { promise, resolve } = Promise.withResolvers<void>();
  const bound = setTimeout(resolve, BODY_DRAIN_MS_MAX);
  let bytes = 0;
  request.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= BODY_DRAIN_BYTES_MAX) return;
    request.pause();
    resolve();
  });
  for (const over of ["end", "close", "error"] as const) request.once(over, () => resolve());
  request.resume();
  return promise.finally(() => clearTimeout(bound));
}

function wrongHeaders(request: IncomingMessage): Failure | null {
  const length = request.headers["content-length"];
  if (length !== undefined && Number(length) > BODY_BYTES_MAX) return tooLarge();
  const type = request.headers["content-type"];
  if (type !== undefined && !/^application\/(?:[\w.+-]+\+)?json\b/i.test(type)) return failure("unsupported_media_type");
  const encoding = request.headers["content-encoding"];
  if (encoding !== undefined && encoding !== "identity") return failure("unsupported_media_type", "compressed bodies are not taken");
  return null;
}

const tooLarge = (): Failure => failure("body_too_large", `a body is at most ${BODY_BYTES_MAX} bytes`);

export function parseJson(bytes: Buffer): Outcome<unknown> {
  if (!isUtf8(bytes)) return refuse(failure("malformed_json", "the body is not UTF-8"));
  if (depthOf(bytes) > JSON_DEPTH_MAX) return refuse(failure("invalid_request", `the body nests deeper than ${JSON_DEPTH_MAX} levels`));
  try {
    return ok(JSON.parse(bytes.toString("utf8")) as unknown);
  } catch (error) {
    return refuse(failure("malformed_json", error instanceof Error ? error.message : undefined));
  }
}

export function parseModelRequest(kind: CallKind, value: unknown): Outcome<ChatRequest | CompletionRequest> {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    return refuse(failure("invalid_request", "the body is not a JSON object"));
  const internal = ENGINE_INTERNAL_FIELDS.find((field) => Object.hasOwn(value, field));
  if (internal !== undefined) return refuse(failure("engine_internal_field", `${internal} is not for clients to set`, internal));
  const parsed = kind === "chat" ? chatRequest.safeParse(value) : completionRequest.safeParse(value);
  return parsed.success ? ok(parsed.data) : refuse(failureOf(parsed.error));
}

function failureOf(error: z.ZodError): Failure {
  const [issue] = error.issues;
  const param = issue?.path.join(".");
  return failure("invalid_request", param ? `${param}: ${issue?.message ?? "wrong"}` : issue?.message, param || undefined);
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Counted on the bytes, before a parser (or an engine's) recurses into it. */
function depthOf(bytes: Buffer): number {
  let depth = 0;
  let deepest = 0;
  let in_string = false;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    if (in_string) {
      if (byte === BACKSLASH) i += 1;
      else if (byte === QUOTE) in_string = false;
    } else if (byte === QUOTE) in_string = true;
    else if (byte === 0x7b || byte === 0x5b) deepest = Math.max(deepest, ++depth);
    else if (byte === 0x7d || byte === 0x5d) depth -= 1;
  }
  return deepest;
}
