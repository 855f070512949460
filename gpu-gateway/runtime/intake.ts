/**
 * From a request to a call that policy can reason about: how long is its prompt (a calibrated estimate: no tokenizer has spoken
 * yet), how much may it say, can it be split over two instances? Learns from what engines report.
 */
import { hash } from "node:crypto";
import type { CallId } from "../../schema/core/ids.ts";
import { micros, type Micros } from "../../schema/core/time.ts";
import type { ChatRequest, CompletionRequest } from "../../schema/core/wire/chat.ts";
import {
  calibrate,
  estimateTokens,
  rawEstimateOfChat,
  rawEstimateOfCompletion,
  UNCALIBRATED,
  type Calibration,
} from "../policy/estimate/tokens.ts";
import type { CallTags } from "../policy/metering/records.ts";
import type { Call, Prefix } from "../policy/vocabulary.ts";
import type { CallEntry, CallKind } from "./calls.ts";
import { CallOutput } from "./output.ts";
import { chatPieces, completionPieces } from "./prompt-prefix.ts";

export type CallRequest = {
  readonly call_id: CallId;
  readonly tags: CallTags;
  readonly kind: CallKind;
  readonly body: ChatRequest | CompletionRequest;
  readonly deadline_ms: number;
  /** Whether its output is kept for a client that comes back. */
  readonly resumable: boolean;
};

export type IntakeOptions = {
  readonly cacheSalt: (tenant: string) => string;
  /** When the client names no limit. */
  readonly max_tokens_default: number;
  /** Whether policy is told what prompts begin with: work that only some policies use. */
  readonly prompt_prefixes?: boolean;
};

export class Intake {
  readonly #options: IntakeOptions;
  /** By model: only models that are configured get here, so they are few. */
  readonly #calibrations = new Map<string, Calibration>();

  constructor(options: IntakeOptions) {
    this.#options = options;
  }

  entry(request: CallRequest, now: Micros, context_tokens: number | null): CallEntry {
    const { kind, tags, body } = request;
    const raw = kind === "chat" ? rawEstimateOfChat(body as ChatRequest) : rawEstimateOfCompletion(body as CompletionRequest);
    const calibration = this.#calibrations.get(tags.model) ?? UNCALIBRATED;
    const prompt_tokens = estimateTokens(raw, calibration);
    const cache_salt = this.#options.cacheSalt(tags.tenant);
    const wanted = maxTokensOf(body);
    const room = (context_tokens ?? Number.MAX_SAFE_INTEGER) - prompt_tokens;
    const max_tokens = wanted ?? Math.max(1, Math.min(this.#options.max_tokens_default, room));
    const call: Call = {
      call_id: request.call_id,
      tenant: tags.tenant as Call["tenant"],
      program: tags.program as Call["program"],
      agent: tags.agent,
      model: tags.model,
      arrived: now,
      deadline: micros(now + request.deadline_ms * 1_000),
      prompt_tokens,
      max_tokens,
      splittable: splittable(body),
      ...(this.#options.prompt_prefixes === true ? { prefix: prefixOf(request, cache_salt, raw.exact ? 1 : calibration.ratio) } : {}),
    };
    return {
      call,
      tags,
      kind,
      // The engine must keep to what admission has counted on.
      body: wanted === null ? { ...body, max_tokens } : body,
      digest: request.resumable ? digestOf(request) : null,
      raw_estimate: raw,
      cache_salt,
      output: new CallOutput(request.resumable),
      resumable: request.resumable,
      legs: new Map(),
      emitted: 0,
      noted: 0,
      first_token_at: null,
      prompt: null,
      served_by: [],
      journaled: false,
    };
  }

  /** The call is done: its prompt was so long. */
  learn(entry: CallEntry): void {
    if (entry.prompt === null) return;
    const { model } = entry.call;
    this.#calibrations.set(model, calibrate(this.#calibrations.get(model) ?? UNCALIBRATED, entry.raw_estimate, entry.prompt.tokens));
  }
}

/** What the call asks for. How its answer is read (streamed or not) is not part of it. */
export function digestOf({ kind, body }: Pick<CallRequest, "kind" | "body">): string {
  const { stream: _, stream_options: __, ...asked } = body;
  return hash("sha256", JSON.stringify([kind, asked]), "base64");
}

/** `ratio`: how many tokens there really are for each that was guessed. */
function prefixOf({ kind, body }: CallRequest, salt: string, ratio: number): Prefix {
  const { tokens_each, hashes } =
    kind === "chat" ? chatPieces(body as ChatRequest, salt) : completionPieces(body as CompletionRequest, salt);
  return { block_tokens: Math.max(1, Math.round(tokens_each * ratio)), blocks: hashes };
}

function maxTokensOf(body: ChatRequest | CompletionRequest): number | null {
  return ("max_completion_tokens" in body ? body.max_completion_tokens : null) ?? body.max_tokens ?? null;
}

/** Prefill would run n times, and an echo of the prompt needs it where decode runs (D3). */
function splittable(body: ChatRequest | CompletionRequest): boolean {
  if ((body.n ?? 1) > 1) return false;
  return !("prompt" in body) || ((body.best_of ?? 1) === 1 && body.echo !== true);
}
