/** Frames of a call put together into one answer, as OpenAI's clients do it: content joined, tool calls merged by index. */
import type { ChatResult } from "../../schema/core/wire/guest.ts";
import { cleanFailure, type NumberedFrame } from "./call-ledger.ts";
import { bad, type Result } from "./result.ts";

type ToolCall = { id: string; type: "function"; function: { name: string; arguments: string } };
type Choice = { text: string; finish_reason: string; tool_calls: Map<number, ToolCall> };
type ToolDelta = { index?: number; id?: string; function?: { name?: string; arguments?: string } };

export class ChatAnswer {
  readonly #choices = new Map<number, Choice>();
  #last: Exclude<NumberedFrame, { type: "token" }> | undefined;

  add(frame: NumberedFrame): void {
    if (frame.type !== "token") {
      this.#last = frame;
      return;
    }
    const choice = this.#choice(frame.choice);
    if (typeof frame.delta["content"] === "string") choice.text += frame.delta["content"];
    if (frame.finish_reason !== undefined) choice.finish_reason = frame.finish_reason;
    const calls = frame.delta["tool_calls"];
    if (Array.isArray(calls)) for (const [i, delta] of calls.entries()) merge(choice.tool_calls, delta as ToolDelta, i);
  }

  result(): Result<ChatResult> {
    const last = this.#last;
    if (!last) return bad("internal", "The model call ended without an answer.");
    if (last.type === "refused") return { ok: false, error: cleanFailure(last.error) };
    const first = this.#choice(0);
    const tool_calls = [...first.tool_calls.entries()].sort(([a], [b]) => a - b).map(([, call]) => call);
    const { prompt_tokens, completion_tokens, total_tokens } = last.usage;
    return {
      ok: true,
      value: {
        text: first.text,
        message: {
          role: "assistant",
          content: first.text === "" && tool_calls.length > 0 ? null : first.text,
          ...(tool_calls.length === 0 ? {} : { tool_calls }),
        },
        finish_reason: first.finish_reason === "" ? last.finish_reason : first.finish_reason,
        usage: { prompt_tokens, completion_tokens, total_tokens },
        choices: [...this.#choices.entries()]
          .sort(([a], [b]) => a - b)
          .map(([index, c]) => ({ index, text: c.text, finish_reason: c.finish_reason === "" ? last.finish_reason : c.finish_reason })),
      },
    };
  }

  /** What there is after the guest stopped reading. */
  partial(): ChatResult {
    const { text } = this.#choice(0);
    const usage = { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 };
    const finish_reason = "cancelled";
    return { text, message: { role: "assistant", content: text }, finish_reason, usage, choices: [{ index: 0, text, finish_reason }] };
  }

  #choice(index: number): Choice {
    let choice = this.#choices.get(index);
    if (!choice) this.#choices.set(index, (choice = { text: "", finish_reason: "", tool_calls: new Map() }));
    return choice;
  }
}

function merge(calls: Map<number, ToolCall>, delta: ToolDelta, position: number): void {
  const index = delta.index ?? position;
  const call = calls.get(index) ?? { id: "", type: "function", function: { name: "", arguments: "" } };
  if (delta.id !== undefined) call.id = delta.id;
  call.function.name += delta.function?.name ?? "";
  call.function.arguments += delta.function?.arguments ?? "";
  calls.set(index, call);
}
