/**
 * What an agent's author imports:
 *
 *   import { agent } from "millrace";
 *   export default agent(async (ctx) => {
 *     const answer = await ctx.ai.chat({ messages: [{ role: "user", content: ctx.input.question }] });
 *     return { answer: answer.text };
 *   });
 *
 * A run is replayed after a failure of the platform: what went through `ctx` is remembered and not done twice. Put everything
 * else that must happen once into `ctx.step`.
 */
import type { Ctx } from "./types.ts";

export type {
  Ai,
  ChatAnswer,
  ChatChunk,
  ChatInput,
  ChatStream,
  Ctx,
  FanoutOptions,
  Json,
  Log,
  MemoryStore,
  RunInfo,
  SessionInfo,
  StepOptions,
} from "./types.ts";
export { MillraceError } from "./error.ts";

export type AgentHandler<Input, Output> = (ctx: Ctx<Input>) => Output | Promise<Output>;

/** Marks the handler as the module's agent. A plain function as default export does the same, without the types. */
export function agent<Input = unknown, Output = unknown>(handler: AgentHandler<Input, Output>): AgentHandler<Input, Output> {
  if (typeof handler !== "function") throw new TypeError("agent() takes a function of ctx");
  return handler;
}
