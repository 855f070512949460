/** Makes calls, as policy sees them, of what traces and generators say. */
import { asId, type CallId } from "../../../schema/core/ids.ts";
import { type Micros, micros } from "../../../schema/core/time.ts";
import type { SimCall } from "../types.ts";

/** What traces do not say and every call needs. */
export type CallShape = {
  readonly model: string;
  /**
   * Prompts that do not fit beside their answer are cut to it, as their clients would have had to do. Which part they would have left
   * out is not known, so nothing is known of what the rest begins with either.
   */
  readonly context_tokens: number;
  readonly patience: Micros;
};

export type CallParts = {
  readonly id: string;
  readonly at: number;
  readonly tenant: string;
  readonly program: string;
  readonly agent: string | null;
  readonly prompt_tokens: number;
  readonly output_tokens: number;
  readonly block_tokens: number;
  /** Chained (prefix-chain.ts); empty: nothing is known. */
  readonly blocks: readonly number[];
};

/** The bound a client would set is not in any trace. Ours: the least power of two that is no less than the answer, 256 at least. */
const MAX_TOKENS_MIN = 256;

export function simCall(parts: CallParts, shape: CallShape): SimCall {
  const output_tokens = Math.min(parts.output_tokens, shape.context_tokens - 1);
  const prompt_tokens = Math.min(parts.prompt_tokens, shape.context_tokens - output_tokens);
  const blocks = prompt_tokens < parts.prompt_tokens ? [] : parts.blocks;
  const power = Math.max(MAX_TOKENS_MIN, 2 ** Math.ceil(Math.log2(output_tokens)));
  return {
    call: {
      call_id: parts.id as CallId,
      tenant: asId<"tenant">(parts.tenant),
      program: asId<"program">(parts.program),
      agent: parts.agent,
      model: shape.model,
      arrived: micros(parts.at),
      deadline: micros(parts.at + shape.patience),
      prompt_tokens,
      max_tokens: Math.min(power, shape.context_tokens - prompt_tokens),
      ...(blocks.length > 0 ? { prefix: { block_tokens: parts.block_tokens, blocks } } : {}),
      splittable: true,
    },
    output_tokens,
  };
}

/** Numbered so that ids sort as calls come. */
export const numbered = (n: number): string => n.toString().padStart(9, "0");
