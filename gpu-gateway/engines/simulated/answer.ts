/**
 * What a simulated model says: decided by the conversation alone (and `seed`, and the choice's index), and plainly simulated.
 *
 * 1. `response_format` json: the smallest JSON that fits the schema, with "simulated" as its strings.
 * 2. Tools with `tool_choice` "required" or a named function: one call of it (the first tool, or the named one), arguments
 *    made from its parameter schema.
 * 3. The last user message has a line `Choose from: a, b, c`: two or three of them (fewer if fewer are offered), in the
 *    order offered, picked by hash: "[simulated m] I choose: a, c."
 * 4. Else: "[simulated m] You asked: <the last user message's first words>." and then words of the prompt in hashed order, up to
 *    a length of 16 to 120 tokens that the hash decides.
 *
 * `max_tokens` cuts (finish_reason "length"), `stop` cuts before the stop string, `ignore_eos` goes on to `max_tokens`.
 */
import { cyrb53 } from "../../engine-model/block-hash.ts";
import { CHARS_PER_TOKEN, contentText, pieces } from "./tokens.ts";
import type { ChatBody } from "./request.ts";

export type Piece =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "call"; readonly id: string; readonly name: string }
  | { readonly type: "arguments"; readonly text: string };

/** One piece per token; never empty. */
export type Answer = { readonly pieces: readonly Piece[]; readonly finish_reason: "stop" | "length" | "tool_calls" };

export type AnswerLimits = {
  readonly max_tokens: number;
  readonly min_tokens: number;
  readonly ignore_eos: boolean;
  readonly stop: readonly string[];
};

const LENGTH_MIN_TOKENS = 16;
const LENGTH_SPREAD_TOKENS = 105; // 16 to 120
const QUOTED_WORDS = 8;
const PROMPT_WORDS_MAX = 64;

export function answerChat(model: string, body: ChatBody, rendered: string, seed: number, limits: AnswerLimits): Answer {
  const hash = cyrb53(rendered, seed);
  const tool = forcedTool(body);
  if (tool !== null) return callAnswer(tool.name, JSON.stringify(sample(tool.parameters, hash, 0)), hash, limits);
  const format = body.response_format?.type;
  if (format === "json_object") return textAnswer(JSON.stringify({ simulated: true, model, seed: hash }), "", limits);
  if (format === "json_schema") return textAnswer(JSON.stringify(sample(body.response_format?.json_schema?.schema, hash, 0)), "", limits);
  const asked = contentText(body.messages.findLast((message) => message.role === "user")?.content);
  const chosen = choose(asked, hash);
  if (chosen !== null) return textAnswer(`[simulated ${model}] I choose: ${chosen.join(", ")}.`, asked, limits, hash);
  return answerText(model, asked === "" ? rendered : asked, hash, limits);
}

export function answerText(model: string, asked: string, hash: number, limits: AnswerLimits): Answer {
  const words = wordsOf(asked);
  const length = LENGTH_MIN_TOKENS + (hash % LENGTH_SPREAD_TOKENS);
  let text = `[simulated ${model}] You asked: ${words.slice(0, QUOTED_WORDS).join(" ")}${words.length > QUOTED_WORDS ? " …" : ""}.`;
  text = grow(text, words, hash, Math.min(length, limits.max_tokens));
  return textAnswer(text, asked, limits, hash);
}

/** The tool that must be called, if one must. */
function forcedTool(body: ChatBody): { name: string; parameters: unknown } | null {
  const choice = body.tool_choice;
  if (body.tools === undefined || choice === undefined || choice === null || choice === "auto" || choice === "none") return null;
  const wanted = typeof choice === "string" ? undefined : choice.function.name;
  const tool = wanted === undefined ? body.tools[0] : body.tools.find((each) => each.function.name === wanted);
  return tool === undefined ? null : { name: tool.function.name, parameters: tool.function.parameters };
}

function choose(asked: string, hash: number): string[] | null {
  const line = /^[ \t]*choose from:(.+)$/im.exec(asked)?.[1];
  const offered = (line ?? "")
    .split(",")
    .map((name) => name.trim().replace(/\.$/, ""))
    .filter((name) => name !== "");
  if (offered.length === 0) return null;
  const wanted = Math.min(offered.length, 2 + (hash % 2));
  const ranked = offered.toSorted((a, b) => cyrb53(a, hash) - cyrb53(b, hash) || (a < b ? -1 : 1)).slice(0, wanted);
  return offered.filter((name) => ranked.includes(name));
}

function textAnswer(full: string, asked: string, limits: AnswerLimits, hash = 0): Answer {
  let text = full;
  const least = limits.ignore_eos ? limits.max_tokens : Math.min(limits.min_tokens, limits.max_tokens);
  if (pieces(text).length < least) text = grow(text, wordsOf(asked), hash, least);
  const stopped = firstStop(text, limits.stop);
  const kept = pieces(stopped === null ? text : text.slice(0, stopped)).map((piece): Piece => ({ type: "text", text: piece }));
  if (kept.length === 0) kept.push({ type: "text", text: "" });
  const over = kept.length > limits.max_tokens || (limits.ignore_eos && stopped === null);
  return { pieces: kept.slice(0, limits.max_tokens), finish_reason: over ? "length" : "stop" };
}

function callAnswer(name: string, json: string, hash: number, limits: AnswerLimits): Answer {
  const id = `chatcmpl-tool-${cyrb53(json, hash).toString(16).padStart(14, "0")}`;
  const all: Piece[] = [{ type: "call", id, name }, ...pieces(json).map((text): Piece => ({ type: "arguments", text }))];
  const cut = all.length > limits.max_tokens;
  return { pieces: all.slice(0, limits.max_tokens), finish_reason: cut ? "length" : "tool_calls" };
}

function firstStop(text: string, stop: readonly string[]): number | null {
  const found = stop.map((each) => (each === "" ? -1 : text.indexOf(each))).filter((at) => at >= 0);
  return found.length === 0 ? null : Math.min(...found);
}

/** Appends words until the text is `tokens` long, exactly. */
function grow(text: string, words: readonly string[], hash: number, tokens: number): string {
  const vocabulary = words.length === 0 ? ["simulated", "words", "only"] : words;
  const chars = tokens * CHARS_PER_TOKEN;
  const parts = [text];
  let length = text.length;
  for (let i = 0; length < chars; i++) {
    const word = ` ${vocabulary[cyrb53(String(i), hash) % vocabulary.length] ?? "word"}`;
    parts.push(word);
    length += word.length;
  }
  return length > chars && text.length < chars ? `${parts.join("").slice(0, chars - 1)}.` : parts.join("");
}

/** Distinct words in order; letters and digits of the basic plane, so that a word may be cut anywhere. */
function wordsOf(text: string): string[] {
  const words = new Set<string>();
  for (const match of text.slice(0, 16_384).matchAll(/[\p{L}\p{N}'-]+/gu)) {
    if (words.size >= PROMPT_WORDS_MAX) break;
    if (!/[\ud800-\udfff]/.test(match[0])) words.add(match[0].slice(0, 32));
  }
  return [...words];
}

const SAMPLE_DEPTH_MAX = 6;

/** The smallest value that fits a JSON schema, as far as the common keywords go. */
function sample(schema: unknown, hash: number, depth: number): unknown {
  if (typeof schema !== "object" || schema === null) return {};
  const s = schema as Record<string, unknown>;
  if (Array.isArray(s["enum"]) && s["enum"].length > 0) return s["enum"][hash % s["enum"].length];
  if ("const" in s) return s["const"];
  const type = Array.isArray(s["type"]) ? s["type"][0] : (s["type"] ?? ("properties" in s ? "object" : "string"));
  if (depth > SAMPLE_DEPTH_MAX) return null;
  switch (type) {
    case "object": {
      const properties = (s["properties"] ?? {}) as Record<string, unknown>;
      const required = Array.isArray(s["required"]) ? s["required"] : Object.keys(properties);
      return Object.fromEntries(required.map((name: unknown) => [String(name), sample(properties[String(name)] ?? {}, hash, depth + 1)]));
    }
    case "array":
      return [sample(s["items"], hash, depth + 1)];
    case "integer":
    case "number":
      return typeof s["minimum"] === "number" ? s["minimum"] : hash % 10;
    case "boolean":
      return hash % 2 === 0;
    case "null":
      return null;
    default:
      return "simulated";
  }
}
