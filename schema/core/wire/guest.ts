/**
 * What a guest (user code in its isolate) may ask of the object that runs it: JSON text in, JSON text out. A guest never says
 * who it is; each capability carries that (D8). `path` names the step in its parent's order: `ai#1`, `research/ai#2`,
 * `fanout#1/3/call#1`; the same path asks for the same thing on replay, or it is `nondeterministic_step` (D11).
 */
import { z } from "zod";
import { chatRequest } from "./chat.ts";
import { functionName } from "./http.ts";
import type { wireFailure } from "./link.ts";

/** Answers where a guest names no model. */
export const DEFAULT_MODEL = "llama-3-8b";
/** One request of a guest, as JSON: beyond it `invalid_request`. */
export const GUEST_REQUEST_BYTES_MAX = 1_048_576;
/** What a guest returns, a step's value, a child's output, as JSON: beyond it `result_not_serializable`. */
export const RESULT_BYTES_MAX = 1_048_576;
/** One log line: the rest is cut off. */
export const LOG_TEXT_CHARS_MAX = 8_192;
export const JOURNAL_ENTRIES_MAX = 256; // entries of one journal request; the harness sends several
export const MEMORY_KEY_CHARS_MAX = 512; // `invalid_request`
export const MEMORY_LIST_MAX = 1_000; // keys of one list; `limit` may ask for fewer

const path = z.string().min(1).max(400);
const agent = z.string().min(1).max(128).optional();
const step = { path, agent };
const key = z.string().min(1).max(MEMORY_KEY_CHARS_MAX);

/** Strict: a field that is not here (`tenant`, `scope`, `session`) is an attempt to reach further, and is denied. */
export const guestRequest = z.discriminatedUnion("op", [
  z.strictObject({
    op: z.literal("chat"),
    ...step,
    body: chatRequest.extend({ model: chatRequest.shape.model.default(DEFAULT_MODEL) }),
  }),
  z.strictObject({ op: z.literal("memory.get"), ...step, key }),
  z.strictObject({ op: z.literal("memory.set"), ...step, key, value: z.unknown() }),
  z.strictObject({ op: z.literal("memory.delete"), ...step, key }),
  z.strictObject({
    op: z.literal("memory.list"),
    ...step,
    prefix: z.string().max(MEMORY_KEY_CHARS_MAX).default(""),
    limit: z.int().min(1).max(MEMORY_LIST_MAX).default(100),
  }),
  z.strictObject({ op: z.literal("call"), ...step, function: functionName, input: z.unknown() }),
  z.strictObject({ op: z.literal("step.begin"), ...step }),
  z.strictObject({ op: z.literal("step.done"), ...step, value: z.unknown() }),
  z.strictObject({ op: z.literal("step.failed"), ...step, detail: z.string().max(LOG_TEXT_CHARS_MAX) }),
  z.strictObject({
    op: z.literal("journal"),
    entries: z
      .array(
        z.discriminatedUnion("kind", [
          z.strictObject({
            kind: z.literal("log"),
            path,
            level: z.enum(["debug", "info", "warn", "error"]),
            text: z.string().max(LOG_TEXT_CHARS_MAX),
          }),
          z.strictObject({ kind: z.literal("emit"), path, name: z.string().min(1).max(128), data: z.unknown() }),
        ]),
      )
      .max(JOURNAL_ENTRIES_MAX),
  }),
]);
export type GuestRequest = z.infer<typeof guestRequest>;
export type GuestOp = GuestRequest["op"];

export type GuestReply =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly error: z.infer<typeof wireFailure> };

/** Lines of a streamed chat. The last one is `end` or `error`. */
export type GuestStreamLine =
  | { readonly type: "delta"; readonly text: string; readonly delta: Record<string, unknown> }
  | { readonly type: "end"; readonly result: ChatResult }
  | { readonly type: "error"; readonly error: z.infer<typeof wireFailure> };

/** What `ai.chat` resolves to. */
export type ChatResult = {
  readonly text: string;
  readonly message: {
    readonly role: "assistant";
    readonly content: string | null;
    readonly tool_calls?: readonly {
      readonly id: string;
      readonly type: "function";
      readonly function: { readonly name: string; readonly arguments: string };
    }[];
  };
  readonly finish_reason: string;
  readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number; readonly total_tokens: number };
  /** With `n` > 1: all choices in order; `text` and `message` are of the first. */
  readonly choices: readonly { readonly index: number; readonly text: string; readonly finish_reason: string }[];
};

/** What the isolate is told of its run, with the input. */
export type GuestInvocation = {
  readonly input: unknown;
  readonly run: {
    readonly id: string;
    readonly function: string;
    readonly version: string;
    readonly agent: string;
    readonly session?: string;
  };
  readonly egress: readonly string[];
};

/** How the isolate's entry answers: always JSON text, so that nothing but data crosses. */
export type GuestResult =
  | { readonly ok: true; readonly output: unknown }
  | { readonly ok: false; readonly kind: "threw" | "not_serializable"; readonly detail: string; readonly code?: string };
