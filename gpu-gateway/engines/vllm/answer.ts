/**
 * Reads the engine's answers: its chunks become OpenAI deltas with OpenAI's fields and no others (I11), its usage block becomes
 * counts, if they are counts at all.
 */
import type { LegUsage } from "../../policy/vocabulary.ts";
import type { LegDelta } from "../../ports/engine.ts";

export type Chunk =
  | { readonly type: "chunk"; readonly id: string; readonly deltas: readonly LegDelta[]; readonly usage: LegUsage | null }
  | { readonly type: "error"; readonly status: number }
  | { readonly type: "fault"; readonly detail: string };

const TEXT_FIELDS = ["role", "content", "refusal", "reasoning", "reasoning_content"];
const TOKENS_MAX = 1e9; // a count beyond it is no count
const FINISH_REASONS = new Set(["stop", "length", "tool_calls", "function_call", "content_filter", "abort", "error"]);

export function readChunk(data: string): Chunk {
  let json: unknown;
  try {
    json = JSON.parse(data);
  } catch {
    return { type: "fault", detail: "an event whose data is not JSON" };
  }
  if (!isRecord(json)) return { type: "fault", detail: "an event whose data is no object" };
  if (isRecord(json["error"])) {
    const code = json["error"]["code"];
    return { type: "error", status: typeof code === "number" ? code : 500 };
  }
  const choices = json["choices"];
  if (!Array.isArray(choices)) return { type: "fault", detail: "a chunk without choices" };
  const deltas: LegDelta[] = [];
  for (const choice of choices as unknown[]) {
    const delta = isRecord(choice) ? readChoice(choice) : null;
    if (delta === null) return { type: "fault", detail: "a choice of no known form" };
    deltas.push(delta);
  }
  const id = json["id"];
  return { type: "chunk", id: typeof id === "string" ? id : "", deltas, usage: readUsage(json["usage"]) };
}

/** Null when absent or not counts: negative, fractional, absurd. */
export function readUsage(usage: unknown): LegUsage | null {
  if (!isRecord(usage)) return null;
  const details = usage["prompt_tokens_details"];
  const counts = {
    prompt_tokens: usage["prompt_tokens"],
    cached_tokens: (isRecord(details) ? details["cached_tokens"] : null) ?? 0,
    completion_tokens: usage["completion_tokens"] ?? 0,
  };
  return isCounts(counts) && counts.cached_tokens <= counts.prompt_tokens ? counts : null;
}

function isCounts(counts: Record<keyof LegUsage, unknown>): counts is LegUsage {
  return Object.values(counts).every((count) => Number.isInteger(count) && (count as number) >= 0 && (count as number) <= TOKENS_MAX);
}

function readChoice(choice: Record<string, unknown>): LegDelta | null {
  const index = choice["index"] ?? 0;
  if (typeof index !== "number" || !Number.isInteger(index) || index < 0) return null;
  const source = isRecord(choice["delta"]) ? choice["delta"] : { content: choice["text"] }; // a text completion: the link calls it content too
  const reason = choice["finish_reason"];
  const finish_reason = typeof reason === "string" ? (FINISH_REASONS.has(reason) ? reason : "stop") : null;
  const delta: Record<string, unknown> = {};
  for (const field of TEXT_FIELDS) if (typeof source[field] === "string") delta[field] = source[field];
  const calls = source["tool_calls"];
  if (Array.isArray(calls) && calls.length > 0) delta["tool_calls"] = calls.filter(isRecord).map(readToolCall);
  // The opening chunk carries the role and no token. Any other is one token at least; the usage block corrects the sum.
  const opening = delta["role"] !== undefined && finish_reason === null && !calls && (delta["content"] ?? "") === "";
  const logprobs = choice["logprobs"] ?? undefined;
  return { choice: index, delta, tokens: opening ? 0 : 1, finish_reason, ...(logprobs === undefined ? {} : { logprobs }) };
}

function readToolCall(call: Record<string, unknown>): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const field of ["index", "id", "type"]) if (call[field] !== undefined && call[field] !== null) out[field] = call[field];
  if (!isRecord(call["function"])) return out;
  const { name, arguments: args } = call["function"];
  out["function"] = { ...(typeof name === "string" ? { name } : {}), ...(typeof args === "string" ? { arguments: args } : {}) };
  return out;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
