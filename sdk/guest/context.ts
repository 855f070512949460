/** Builds the `ctx` of a run. Nothing here decides anything: every limit and right is kept by the object that answers. */
import { EMIT_BYTES_MAX, FANOUT_MAX } from "../../schema/core/wire/limits.ts";
import { chatBody, openStream } from "./chat.ts";
import { MillraceError } from "./error.ts";
import { toJson } from "./json.ts";
import { newScope, scopeFor, stepPath, within, type Scope } from "./scope.ts";
import { byteLength } from "./session.ts";
import type { ChatAnswer, Ctx, FanoutOptions, Log, StepOptions } from "./types.ts";

export function makeCtx(own: Scope, named_agent?: string): Ctx {
  const { session } = own;
  const { run } = session.invocation;
  const here = () => scopeFor(own);
  const step = (kind: string, options?: StepOptions) => ({
    path: stepPath(here(), kind, options?.name),
    agent: options?.agent ?? named_agent,
  });
  const log = (level: "debug" | "info" | "warn" | "error", text: string) => writeLog(here(), level, text);

  const ctx: Ctx = {
    input: session.invocation.input,
    run: { id: run.id, function: run.function, version: run.version },
    ...(run.session === undefined ? {} : { session: { id: run.session } }),
    ai: {
      chat: async (input, options) => {
        const request = { op: "chat", ...step("ai", options), body: chatBody(input) };
        return (await session.ask("ai", request as unknown as Parameters<typeof session.ask>[1])) as ChatAnswer;
      },
      stream: (input, options) => openStream(session, { ...step("ai", options), body: chatBody(input) }),
    },
    memory: {
      get: async <T>(key: string, more?: object) => {
        const found = (await session.ask("memory", { op: "memory.get", ...step("memory"), ...more, key })) as { value?: T };
        return found.value;
      },
      set: async (key: string, value: unknown, more?: object) => {
        await session.ask("memory", { op: "memory.set", ...step("memory"), ...more, key, value });
      },
      delete: async (key: string, more?: object) =>
        (await session.ask("memory", { op: "memory.delete", ...step("memory"), ...more, key })) as boolean,
      list: async (options = {}) =>
        (await session.ask("memory", {
          op: "memory.list",
          prefix: undefined,
          limit: undefined,
          ...step("memory"),
          ...options,
        })) as readonly string[],
    },
    log: Object.assign((text: string) => log("info", text), {
      debug: (text: string) => log("debug", text),
      info: (text: string) => log("info", text),
      warn: (text: string) => log("warn", text),
      error: (text: string) => log("error", text),
    }) satisfies Log,
    call: async <T>(name: string, input?: unknown, options?: StepOptions) =>
      (await session.ask("call", { op: "call", ...step("call", options), function: name, input: input ?? null })) as T,
    step: (name, work) => runStep(here(), name, named_agent, work),
    fanout: (items, work, options) => runFanout(here(), named_agent, items, work, options),
    emit: async (name, data = null) => {
      if (typeof name !== "string") throw new MillraceError("invalid_request", "An event's name is a string.", "name");
      const json = toJson(data, "data");
      if (!json.ok) throw new MillraceError("invalid_request", json.detail, "data");
      if (byteLength(json.text) > EMIT_BYTES_MAX)
        throw new MillraceError("invalid_request", `An event's data is at most ${EMIT_BYTES_MAX} bytes of JSON.`, "data");
      session.record({ kind: "emit", path: stepPath(here(), "emit"), name, data });
      await session.flush();
    },
    agent: (name) => makeCtx(own, name),
  };
  return ctx;
}

export function writeLog(scope: Scope, level: "debug" | "info" | "warn" | "error", text: unknown): void {
  const line = (typeof text === "string" ? text : String(text)).slice(0, LOG_CHARS);
  scope.session.record({ kind: "log", path: stepPath(scope, "log"), level, text: line });
}
const LOG_CHARS = 8_192;

async function runStep<T>(scope: Scope, name: string, agent: string | undefined, work: (ctx: Ctx<never>) => T | Promise<T>): Promise<T> {
  const { session } = scope;
  const path = stepPath(scope, "step", name);
  const begun = (await session.ask("journal", { op: "step.begin", path, agent })) as { memo?: { value: T } };
  if (begun.memo) return begun.memo.value;
  const inner = newScope(session, `${path}/`);
  let value: T;
  try {
    value = await within(inner, async () => work(makeCtx(inner, agent) as Ctx<never>));
  } catch (error) {
    const detail = (error instanceof Error ? error.message : String(error)).slice(0, LOG_CHARS);
    await session.ask("journal", { op: "step.failed", path, agent, detail });
    throw error;
  }
  const json = toJson(value, `step "${name}"`);
  if (!json.ok) throw new MillraceError("result_not_serializable", json.detail);
  await session.ask("journal", { op: "step.done", path, agent, value: value ?? null });
  // What a replay would give, not the live object.
  return JSON.parse(json.text) as T;
}

async function runFanout<Item, T>(
  scope: Scope,
  agent: string | undefined,
  items: readonly Item[],
  work: (item: Item, ctx: Ctx<never>, index: number) => T | Promise<T>,
  options?: FanoutOptions,
): Promise<T[]> {
  if (items.length > FANOUT_MAX)
    throw new MillraceError("too_many_steps", `fanout takes at most ${FANOUT_MAX} items, not ${items.length}.`);
  const path = stepPath(scope, "fanout");
  const results: T[] = Array.from({ length: items.length });
  const faults: { index: number; error: unknown }[] = [];
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const index = next++;
      const inner = newScope(scope.session, `${path}/${index}/`);
      try {
        results[index] = await within(inner, async () => work(items[index] as Item, makeCtx(inner, agent) as Ctx<never>, index));
      } catch (error) {
        faults.push({ index, error });
      }
    }
  };
  const concurrency = Math.max(1, Math.min(items.length, options?.concurrency ?? items.length));
  await Promise.all(Array.from({ length: concurrency }, worker));
  const first = faults.sort((a, b) => a.index - b.index)[0];
  if (first) throw first.error;
  return results;
}
