/**
 * A call's frames in OpenAI's words: the pieces of a stream, or one body. One id in all chunks; role once per choice;
 * finish_reason once per choice; usage in a last chunk with no choices, only when asked for.
 */
import type { TokenUsage } from "../../../schema/core/wire/chat.ts";
import type { LegUsage } from "../../policy/vocabulary.ts";
import type { CallKind, KnownCall } from "../../runtime/calls.ts";
import type { EndFrame, TokenFrame } from "../../runtime/output.ts";

type Done = Extract<EndFrame, { type: "done" }>;

export type Naming = { readonly id: string; readonly created_s: number; readonly model: string };

export function nameOf(call: KnownCall): Naming {
  const prefix = call.kind === "chat" ? "chatcmpl-" : "cmpl-";
  return { id: prefix + call.call.call_id.replace(/^call_/, ""), created_s: Math.floor(Date.now() / 1_000), model: call.call.model };
}

export function toTokenUsage(usage: LegUsage): TokenUsage {
  return {
    prompt_tokens: usage.prompt_tokens,
    completion_tokens: usage.completion_tokens,
    total_tokens: usage.prompt_tokens + usage.completion_tokens,
    prompt_tokens_details: { cached_tokens: usage.cached_tokens },
  };
}

/** Writes the chunks of one stream. */
export class ChunkWriter {
  readonly #kind: CallKind;
  readonly #head: string;
  readonly #include_usage: boolean;
  readonly #roles = new Set<number>();
  readonly #finished = new Set<number>();

  constructor(kind: CallKind, naming: Naming, include_usage: boolean) {
    const object = kind === "chat" ? "chat.completion.chunk" : "text_completion";
    const { id, created_s: created, model } = naming;
    this.#kind = kind;
    this.#head = `data: ${JSON.stringify({ id, object, created, model }).slice(0, -1)},"choices":[`;
    this.#include_usage = include_usage;
  }

  token(frame: TokenFrame): string {
    if (frame.finish_reason !== null) this.#finished.add(frame.choice);
    return this.#chunk(frame.choice, frame.delta, frame.logprobs, frame.finish_reason);
  }

  end(frame: Done): string {
    let text = "";
    // An engine that says why only at the very end speaks of all choices at once.
    const choices = this.#roles.size === 0 ? [0] : this.#roles;
    for (const choice of choices) if (!this.#finished.has(choice)) text += this.#chunk(choice, {}, undefined, frame.finish_reason);
    if (this.#include_usage) text += `${this.#head}],"usage":${JSON.stringify(toTokenUsage(frame.usage))}}\n\n`;
    return `${text}data: [DONE]\n\n`;
  }

  #chunk(choice: number, delta: Readonly<Record<string, unknown>>, logprobs: unknown, finish_reason: string | null): string {
    const first = !this.#roles.has(choice);
    this.#roles.add(choice);
    const more = logprobs === undefined ? "" : `"logprobs":${JSON.stringify(logprobs)},`;
    const said = this.#kind === "chat" ? `"delta":${chatDelta(delta, first)}` : `"text":${JSON.stringify(textOf(delta))}`;
    return `${this.#head}{"index":${choice},${said},${more}"finish_reason":${JSON.stringify(finish_reason)}}]}\n\n`;
  }
}

function chatDelta(delta: Readonly<Record<string, unknown>>, first: boolean): string {
  const { role: _, ...rest } = delta;
  return JSON.stringify(first ? { role: "assistant", ...rest } : rest);
}

const textOf = (delta: Readonly<Record<string, unknown>>): string => (typeof delta["content"] === "string" ? delta["content"] : "");

type ToolCall = { id?: string; type: string; function: { name: string; arguments: string } };
/** As engines name what a model thinks before it answers: each has its own name for it, and keeps it. */
const REASONING = ["reasoning", "reasoning_content"] as const;
type Reasoning = (typeof REASONING)[number];
type Choice = {
  content: string | null;
  refusal: string | null;
  reasoning: Partial<Record<Reasoning, string>>;
  tools: ToolCall[];
  logprobs: unknown;
  finish_reason: string | null;
};

/** Gathers the frames of a call into the one body of an answer that was not streamed. */
export class BodyCollector {
  readonly #choices = new Map<number, Choice>();

  token(frame: TokenFrame): void {
    let choice = this.#choices.get(frame.choice);
    if (choice === undefined) {
      choice = emptyChoice(null);
      this.#choices.set(frame.choice, choice);
    }
    const { content, refusal, tool_calls } = frame.delta;
    if (typeof content === "string") choice.content = (choice.content ?? "") + content;
    if (typeof refusal === "string") choice.refusal = (choice.refusal ?? "") + refusal;
    for (const name of REASONING) {
      const piece = frame.delta[name];
      if (typeof piece === "string") choice.reasoning[name] = (choice.reasoning[name] ?? "") + piece;
    }
    if (Array.isArray(tool_calls)) for (const piece of tool_calls as readonly unknown[]) addToolPiece(choice.tools, piece);
    if (frame.logprobs !== undefined) choice.logprobs = joined(choice.logprobs, frame.logprobs);
    choice.finish_reason = frame.finish_reason ?? choice.finish_reason;
  }

  body(kind: CallKind, { id, created_s: created, model }: Naming, end: Done): object {
    if (this.#choices.size === 0) this.#choices.set(0, emptyChoice(""));
    const choices = [...this.#choices].sort(([a], [b]) => a - b).map(([index, choice]) => toChoice(kind, index, choice, end.finish_reason));
    const object = kind === "chat" ? "chat.completion" : "text_completion";
    return { id, object, created, model, choices, usage: toTokenUsage(end.usage) };
  }
}

const emptyChoice = (content: string | null): Choice => ({
  content,
  refusal: null,
  reasoning: {},
  tools: [],
  logprobs: undefined,
  finish_reason: null,
});

function toChoice(kind: CallKind, index: number, choice: Choice, reason: string): object {
  const finish_reason = choice.finish_reason ?? reason;
  const logprobs = choice.logprobs ?? null;
  if (kind === "completion") return { index, text: choice.content ?? "", logprobs, finish_reason };
  const { content, refusal, reasoning } = choice;
  const tool_calls = choice.tools.length > 0 ? { tool_calls: choice.tools } : {};
  return { index, message: { role: "assistant", content, refusal, ...reasoning, ...tool_calls }, logprobs, finish_reason };
}

function addToolPiece(tools: ToolCall[], piece: unknown): void {
  if (typeof piece !== "object" || piece === null) return;
  const {
    index,
    id,
    type,
    function: fn,
  } = piece as { index?: number; id?: string; type?: string; function?: { name?: string; arguments?: string } };
  const at = index ?? tools.length;
  const tool = (tools[at] ??= { type: "function", function: { name: "", arguments: "" } });
  if (id !== undefined) tool.id = id;
  if (type !== undefined) tool.type = type;
  tool.function.name += fn?.name ?? "";
  tool.function.arguments += fn?.arguments ?? "";
}

/** Logprobs come as objects of lists: each list goes on where it was. */
function joined(before: unknown, piece: unknown): unknown {
  if (typeof before !== "object" || before === null || typeof piece !== "object" || piece === null) return piece;
  const all: Record<string, unknown> = { ...before };
  for (const [key, value] of Object.entries(piece)) {
    const had = all[key];
    all[key] = Array.isArray(had) && Array.isArray(value) ? [...(had as unknown[]), ...(value as unknown[])] : value;
  }
  return all;
}
