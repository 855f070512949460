/** Reads a generation request: refuses it as vLLM would, or says what is to be generated for it. */
import { BLOCK_TOKENS } from "../../engine-model/kv-blocks.ts";
import { cyrb53 } from "../../engine-model/block-hash.ts";
import type { z } from "zod";
import { answerChat, answerText } from "./answer.ts";
import type { Answer } from "./answer.ts";
import type { Options } from "./flags.ts";
import { chatBody, completionBody, readHandover } from "./request.ts";
import type { ChatBody, CompletionBody, HandoverReading } from "./request.ts";
import { idPrompt, renderChat, textPrompt } from "./tokens.ts";
import type { Prompt } from "./tokens.ts";

export type Prepared = {
  readonly kind: "chat" | "completion";
  readonly model: string;
  readonly prompt: Prompt;
  /** One per choice. */
  readonly answers: readonly Answer[];
  readonly stream: boolean;
  readonly include_usage: boolean;
  readonly continuous_usage: boolean;
  readonly logprobs: boolean;
  readonly echo: string;
  readonly priority: number;
  readonly handover: HandoverReading;
};

export type Preparation =
  | { readonly type: "ok"; readonly prepared: Prepared }
  | { readonly type: "refused"; readonly status: number; readonly message: string; readonly param: string | null };

const refused = (status: number, message: string, param: string | null = null): Preparation => ({
  type: "refused",
  status,
  message,
  param,
});

export function prepare(kind: "chat" | "completion", json: unknown, options: Options): Preparation {
  const parsed = (kind === "chat" ? chatBody : completionBody).safeParse(json);
  if (!parsed.success) return validationError(parsed.error);
  const body: ChatBody | CompletionBody = parsed.data;
  const model = options.profile.name;
  if (body.model !== undefined && body.model !== model) {
    return refused(404, `The model \`${body.model}\` does not exist. Valid aliases: ${model}.`, "model");
  }
  if (body.stream !== true && body.stream_options !== undefined && body.stream_options !== null) {
    return refused(400, "Stream options can only be defined when `stream=True`. (parameter=stream_options)", "stream_options");
  }
  const salt = body.cache_salt ?? "";
  const chat = kind === "chat" ? (body as ChatBody) : null;
  const completion = kind === "completion" ? (body as CompletionBody) : null;
  const prompt = chat === null ? completionPrompt((completion as CompletionBody).prompt, salt) : textPrompt(renderChat(chat), salt);

  const context = options.context_tokens;
  if (prompt.tokens >= context) {
    const message = `This model's maximum context length is ${context} tokens. However, your prompt contains at least ${prompt.tokens} input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value=${prompt.tokens})`;
    return refused(400, message, "input_tokens");
  }
  const asked = chat?.max_completion_tokens ?? body.max_tokens ?? (kind === "completion" ? 16 : context - prompt.tokens);
  if (asked > context - prompt.tokens) {
    const message = `max_tokens=${asked} cannot be greater than max_model_len=${context} less the ${prompt.tokens} tokens of the prompt. Please request fewer output tokens. (parameter=max_tokens, value=${asked})`;
    return refused(400, message, "max_tokens");
  }
  const min_tokens = body.min_tokens ?? 0;
  if (min_tokens > asked) return refused(400, `min_tokens must be less than or equal to max_tokens=${asked}, got ${min_tokens}.`);

  const stop = typeof body.stop === "string" ? [body.stop] : (body.stop ?? []);
  const limits = { max_tokens: asked, min_tokens, ignore_eos: body.ignore_eos === true, stop };
  const answers = Array.from({ length: body.n ?? 1 }, (_, index) => {
    const seed = (body.seed ?? 0) + index;
    if (chat !== null) return answerChat(model, chat, prompt.text, seed, limits);
    return answerText(model, prompt.text, cyrb53(prompt.text, seed), limits);
  });
  const prepared: Prepared = {
    kind,
    model,
    prompt,
    answers,
    stream: body.stream === true,
    include_usage: body.stream_options?.include_usage === true,
    continuous_usage: body.stream_options?.continuous_usage_stats === true,
    logprobs: chat === null ? typeof completion?.logprobs === "number" : chat.logprobs === true,
    echo: completion?.echo === true ? prompt.text : "",
    priority: body.priority ?? 0,
    handover: readHandover(body.kv_transfer_params, prompt.tokens, BLOCK_TOKENS),
  };
  return { type: "ok", prepared };
}

function completionPrompt(prompt: CompletionBody["prompt"], salt: string): Prompt {
  if (typeof prompt === "string") return textPrompt(prompt, salt);
  const [first] = prompt;
  if (typeof first === "string") return textPrompt(first, salt);
  return idPrompt(
    prompt.filter((id): id is number => typeof id === "number"),
    salt,
  );
}

function validationError(error: z.ZodError): Preparation {
  const issue = error.issues[0];
  const field = issue?.path.join(".") ?? "";
  if (field === "cache_salt") {
    return refused(400, "Parameter 'cache_salt' must be a non-empty string if provided. (parameter=cache_salt)", "cache_salt");
  }
  return refused(400, `1 validation error:\n  {'loc': 'body.${field}', 'msg': '${issue?.message ?? "invalid"}'}`, `body.${field}`);
}
