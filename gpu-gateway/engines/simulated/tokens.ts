/**
 * The token rule: four UTF-16 code units are a token, the rest rounds up. The same for /tokenize, usage and output, so that counts
 * agree everywhere. A piece never ends inside a surrogate pair: the half waits for the next piece, as a real detokenizer does.
 */
import { BLOCK_TOKENS } from "../../engine-model/kv-blocks.ts";
import { blockHashes, cyrb53 } from "../../engine-model/block-hash.ts";
import type { ChatBody, Message } from "./request.ts";

export const CHARS_PER_TOKEN = 4;

export function countTokens(text: string): number {
  return Math.ceil(text.length / CHARS_PER_TOKEN);
}

/** One string per token. */
export function pieces(text: string): string[] {
  const out: string[] = [];
  let from = 0;
  for (let end = CHARS_PER_TOKEN; from < text.length || end - CHARS_PER_TOKEN < text.length; end += CHARS_PER_TOKEN) {
    let cut = Math.min(end, text.length);
    if (cut < text.length && isHighSurrogate(text.charCodeAt(cut - 1))) cut--;
    out.push(text.slice(from, cut));
    from = cut;
  }
  return out;
}

export function tokenId(piece: string): number {
  return cyrb53(piece, 0) % 128_000;
}

/** What a chat template would make of the conversation. */
export function renderChat(body: ChatBody): string {
  const tools = body.tools === undefined ? "" : `<|tools|>${JSON.stringify(body.tools)}\n`;
  return `${tools}${body.messages.map(renderMessage).join("")}<|assistant|>`;
}

export function contentText(content: unknown): string {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content.map((part: { text?: unknown }) => (typeof part?.text === "string" ? part.text : JSON.stringify(part))).join("");
}

export type Prompt = { readonly text: string; readonly tokens: number; readonly block_hashes: readonly number[] };

export function textPrompt(text: string, salt: string): Prompt {
  const tokens = Math.max(1, countTokens(text));
  const content = (from: number, to: number) => text.slice(from * CHARS_PER_TOKEN, to * CHARS_PER_TOKEN);
  return { text, tokens, block_hashes: blockHashes(tokens, content, salt) };
}

export function idPrompt(ids: readonly number[], salt: string): Prompt {
  const content = (from: number, to: number) => ids.slice(from, to).join(",");
  return {
    text: `tokens ${ids.slice(0, BLOCK_TOKENS).join(" ")}`,
    tokens: ids.length,
    block_hashes: blockHashes(ids.length, content, salt),
  };
}

function renderMessage(message: Message): string {
  const calls = message.tool_calls === undefined ? "" : JSON.stringify(message.tool_calls);
  return `<|${message.role}|>${contentText(message.content)}${calls}\n`;
}

function isHighSurrogate(code: number): boolean {
  return code >= 0xd800 && code <= 0xdbff;
}
