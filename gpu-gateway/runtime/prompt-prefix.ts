/**
 * What a request's prompt begins with, for policies that know what instances hold (Call.prefix): no tokenizer has spoken, so it is cut
 * into pieces of about PIECE_TOKENS × 4 characters, and each piece has a hash of everything up to its end. Requests that begin alike
 * have equal hashes for as long as they are alike.
 *
 *  - It begins with the tenant's cache salt: equal prompts of two tenants share no hash (I3).
 *  - Tools come first, as chat templates put them, then each message: its role is part of the text.
 *  - What follows an image is not known: its text is not what the model sees.
 *  - A guess about a cache, not a proof of equality: 53 bits, quick to make. A collision costs placement quality inside one tenant.
 */
import type { ChatRequest, CompletionRequest } from "../../schema/core/wire/chat.ts";

/** Tokens of one piece, at four characters a token. */
const PIECE_TOKENS = 64;
const PIECE_CHARS = PIECE_TOKENS * 4;
/** Pieces of one prompt at most (I8): 131,072 tokens. What comes after is not looked at. */
const PIECES_MAX = 2_048;
/** A role stands for what a template puts around a message: four tokens. */
const ROLE_CHARS = 16;

export type PromptPieces = { readonly tokens_each: number; readonly hashes: readonly number[] };

export function chatPieces({ tools, messages }: Pick<ChatRequest, "tools" | "messages">, salt: string): PromptPieces {
  const chain = new Chain(salt);
  if (tools !== undefined) chain.text(JSON.stringify(tools));
  for (const message of messages) {
    if (chain.full) break;
    chain.text(`\u0001${message.role}`.padEnd(ROLE_CHARS, "\u0001"));
    const { content } = message;
    if (typeof content === "string") chain.text(content);
    else {
      for (const part of content ?? []) {
        if (part.type !== "text") return chain.pieces(PIECE_TOKENS);
        chain.text(part.text);
      }
    }
    if (message.role === "assistant")
      for (const call of message.tool_calls ?? []) chain.text(`\u0002${call.function.name}\u0002${call.function.arguments}`);
  }
  return chain.pieces(PIECE_TOKENS);
}

export function completionPieces({ prompt }: Pick<CompletionRequest, "prompt">, salt: string): PromptPieces {
  const chain = new Chain(salt);
  const [first] = prompt;
  if (typeof prompt === "string") chain.text(prompt);
  else if (typeof first === "string") chain.text(first);
  else for (const id of prompt) if (typeof id === "number") chain.unit(id, PIECE_TOKENS);
  return chain.pieces(PIECE_TOKENS);
}

/** Two running 32-bit hashes. At the end of a piece they are mixed into one number, and run on. */
class Chain {
  #a = 0x9e3779b9;
  #b = 0x85ebca6b;
  #in_piece = 0;
  readonly #hashes: number[] = [];

  constructor(salt: string) {
    for (let i = 0; i < salt.length; i++) this.#turn(salt.charCodeAt(i));
  }

  get full(): boolean {
    return this.#hashes.length >= PIECES_MAX;
  }

  text(text: string): void {
    for (let i = 0; i < text.length && !this.full; i++) this.unit(text.charCodeAt(i), PIECE_CHARS);
  }

  unit(code: number, piece_units: number): void {
    if (this.full) return;
    this.#turn(code);
    this.#in_piece += 1;
    if (this.#in_piece < piece_units) return;
    this.#in_piece = 0;
    this.#hashes.push(this.#mixed());
  }

  pieces(tokens_each: number): PromptPieces {
    return { tokens_each, hashes: this.#hashes };
  }

  #turn(code: number): void {
    this.#a = Math.imul(this.#a ^ code, 0x01000193) ^ (this.#a >>> 15);
    this.#b = Math.imul(this.#b + code, 0xc2b2ae35) ^ (this.#b >>> 13);
  }

  #mixed(): number {
    const high = Math.imul(this.#a ^ (this.#b >>> 16), 0x27d4eb2f) >>> 11;
    const low = Math.imul(this.#b ^ (this.#a >>> 15), 0x165667b1) >>> 0;
    return high * 4_294_967_296 + low;
  }
}
