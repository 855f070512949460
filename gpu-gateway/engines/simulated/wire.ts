/** vLLM 0.32's answers, field for field as recorded from a real pair. The fingerprint and version say that this one is simulated. */
import type { Answer, Piece } from "./answer.ts";
import { tokenId } from "./tokens.ts";

export const VERSION = "0.32.0+simulated";
const FINGERPRINT = "vllm-0.32.0-simulated";

export type Usage = { readonly prompt: number; readonly completion: number; readonly cached: number };
export type Head = { readonly kind: "chat" | "completion"; readonly id: string; readonly created: number; readonly model: string };

const usageBlock = ({ prompt, completion, cached }: Usage) => ({
  prompt_tokens: prompt,
  total_tokens: prompt + completion,
  completion_tokens: completion,
  prompt_tokens_details: { cached_tokens: cached, created_cache_tokens: null, multimodal_tokens: null },
  completion_tokens_details: null,
});

export function errorBody(code: number, message: string, param: string | null = null): string {
  const types: Record<number, string> = { 400: "BadRequestError", 404: "NotFoundError", 503: "ServiceUnavailableError" };
  return JSON.stringify({ error: { message, type: types[code] ?? "InternalServerError", param, code } });
}

export function chatLogprobs(texts: readonly string[]) {
  return { content: texts.map((token) => ({ token, logprob: -0.1, bytes: [...Buffer.from(token)], top_logprobs: [] })) };
}

export function completionLogprobs(texts: readonly string[], offset: number) {
  let at = offset;
  const text_offset = texts.map((token) => (at += token.length) - token.length);
  return { text_offset, token_logprobs: texts.map(() => -0.1), tokens: texts, top_logprobs: texts.map((token) => ({ [token]: -0.1 })) };
}

export type Finish = { readonly finish_reason: string } | null;

/** One token of one choice, as a stream's event. */
export function chunk(head: Head, index: number, piece: Piece, finish: Finish, logprobs: unknown, extra: object): string {
  const ended = finish === null ? { finish_reason: null } : { finish_reason: finish.finish_reason, stop_reason: null };
  if (head.kind === "completion") {
    const text = piece.type === "call" ? "" : piece.text;
    const choice = { index, text, logprobs, ...ended, stop_reason: null, prompt_token_ids: null, token_ids: null };
    return event({ id: head.id, object: "text_completion", created: head.created, model: head.model, choices: [choice], ...extra });
  }
  const choice = { index, delta: deltaOf(piece), logprobs, ...ended, token_ids: null };
  return event({ id: head.id, object: "chat.completion.chunk", created: head.created, model: head.model, choices: [choice], ...extra });
}

export function roleChunk(head: Head, index: number, extra: object): string {
  const choice = { index, delta: { role: "assistant", content: "" }, logprobs: null, finish_reason: null };
  const { id, created, model } = head;
  return event({
    id,
    object: "chat.completion.chunk",
    created,
    model,
    choices: [choice],
    prompt_token_ids: null,
    prompt_text: null,
    ...extra,
  });
}

export function usageChunk(head: Head, usage: Usage): string {
  const { id, created, model } = head;
  const object = head.kind === "chat" ? "chat.completion.chunk" : "text_completion";
  return event({ id, object, created, model, choices: [], usage: usageBlock(usage), system_fingerprint: FINGERPRINT });
}

/** In a choice's own chunks: vLLM counts that choice alone, and says nothing of what was cached. */
export const continuousUsage = (prompt: number, completion: number) => ({
  usage: { prompt_tokens: prompt, total_tokens: prompt + completion, completion_tokens: completion },
});

export function event(data: unknown): string {
  return `data: ${JSON.stringify(data)}\n\n`;
}

function deltaOf(piece: Piece): object {
  if (piece.type === "text") return { content: piece.text };
  if (piece.type === "arguments") return { tool_calls: [{ index: 0, function: { arguments: piece.text } }] };
  return { tool_calls: [{ id: piece.id, type: "function", index: 0, function: { name: piece.name, arguments: "" } }] };
}

/** A whole, unstreamed answer. */
export function answerBody(head: Head, answers: readonly Answer[], usage: Usage, kv: unknown, logprobs: boolean, echo: string): string {
  const tail = { kv_transfer_params: kv, ec_transfer_params: null, metrics: null };
  const { id, created, model } = head;
  const shared = { id, created, model, service_tier: null, system_fingerprint: FINGERPRINT, usage: usageBlock(usage) };
  if (head.kind === "completion") {
    const choices = answers.map((answer, index) => {
      const texts = textsOf(answer);
      const ended = {
        finish_reason: answer.finish_reason,
        stop_reason: null,
        token_ids: null,
        prompt_logprobs: null,
        prompt_token_ids: null,
      };
      const scores = logprobs ? completionLogprobs(texts, echo.length) : null;
      return { index, text: echo + texts.join(""), logprobs: scores, ...ended, routed_experts: null };
    });
    return JSON.stringify({ object: "text_completion", ...shared, choices, ...tail });
  }
  const choices = answers.map((answer, index) => {
    const ended = { finish_reason: answer.finish_reason, stop_reason: null, token_ids: null, routed_experts: null };
    return { index, message: messageOf(answer), logprobs: logprobs ? chatLogprobs(textsOf(answer)) : null, ...ended };
  });
  const prompt = { prompt_logprobs: null, prompt_token_ids: null, prompt_text: null };
  return JSON.stringify({ object: "chat.completion", ...shared, choices, ...prompt, ...tail });
}

function textsOf(answer: Answer): string[] {
  return answer.pieces.map((piece) => (piece.type === "call" ? "" : piece.text));
}

function messageOf(answer: Answer): object {
  const call = answer.pieces[0]?.type === "call" ? answer.pieces[0] : null;
  const text = textsOf(answer).join("");
  const rest = { refusal: null, annotations: null, audio: null, function_call: null, reasoning: null };
  if (call === null) return { role: "assistant", content: text, ...rest };
  return {
    role: "assistant",
    content: null,
    ...rest,
    tool_calls: [{ id: call.id, type: "function", function: { name: call.name, arguments: text } }],
  };
}

export function tokenizeAnswer(texts: readonly string[], context_tokens: number): string {
  return JSON.stringify({ count: texts.length, max_model_len: context_tokens, tokens: texts.map(tokenId), token_strs: null });
}
