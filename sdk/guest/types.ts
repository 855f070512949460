/** The types an agent is written against. */
import type { ChatRequest } from "../../schema/core/wire/chat.ts";
import type { ChatResult } from "../../schema/core/wire/guest.ts";

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json | undefined };

/** `name` makes a step's path independent of the order: give one where concurrent branches share a `ctx`. */
export type StepOptions = { readonly name?: string; readonly agent?: string };

/** A prompt, or a chat request as OpenAI's API takes it. Without `model`, the platform's default model answers. */
export type ChatInput = string | (Omit<ChatRequest, "model" | "stream" | "stream_options"> & { readonly model?: string });
export type ChatAnswer = ChatResult;
export type ChatChunk = { readonly text: string; readonly delta: Record<string, unknown> };

/** Iterate for the pieces, await `result` for the whole. Leaving the loop early cancels the call. */
export type ChatStream = AsyncIterable<ChatChunk> & { readonly result: Promise<ChatAnswer> };

export type Ai = {
  chat(input: ChatInput, options?: StepOptions): Promise<ChatAnswer>;
  stream(input: ChatInput, options?: StepOptions): ChatStream;
};

/** Kept for the session, or for the function where there is no session. Values are JSON. */
export type MemoryStore = {
  get<T = unknown>(key: string): Promise<T | undefined>;
  set(key: string, value: unknown): Promise<void>;
  /** Whether there was something. */
  delete(key: string): Promise<boolean>;
  /** Keys in order. */
  list(options?: { readonly prefix?: string; readonly limit?: number }): Promise<readonly string[]>;
};

export type Log = {
  (text: string): void;
  debug(text: string): void;
  info(text: string): void;
  warn(text: string): void;
  error(text: string): void;
};

export type FanoutOptions = {
  /** Branches that run at once; all by default (the platform queues what is over its own limits). */
  readonly concurrency?: number;
};

export type RunInfo = { readonly id: string; readonly function: string; readonly version: string };
export type SessionInfo = { readonly id: string };

export type Ctx<Input = unknown> = {
  readonly input: Input;
  readonly run: RunInfo;
  /** In a session's turn only. */
  readonly session?: SessionInfo;
  readonly ai: Ai;
  readonly memory: MemoryStore;
  /** Lines of the run's log; `console` writes there too. */
  readonly log: Log;
  /** Calls another function of the project and waits for its output. It has a run of its own; its model calls are part of this program. */
  call<T = unknown>(name: string, input?: unknown, options?: StepOptions): Promise<T>;
  /** Runs once: on replay its remembered value is returned. Calls within it are its own steps. */
  step<T>(name: string, work: (ctx: Ctx<Input>) => T | Promise<T>): Promise<T>;
  /** Runs `work` for each item, at once; answers in the items' order. The first failure is thrown when all have ended. */
  fanout<Item, T>(
    items: readonly Item[],
    work: (item: Item, ctx: Ctx<Input>, index: number) => T | Promise<T>,
    options?: FanoutOptions,
  ): Promise<T[]>;
  /** Appends an event of your own to the run's or session's stream; resolves when it is durable. */
  emit(name: string, data?: unknown): Promise<void>;
  /** The same context under the name of an agent: usage and events are attributed to it. */
  agent(name: string): Ctx<Input>;
};
