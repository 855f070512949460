/**
 * What a client may send to a model, and nothing else (I11). Known engine-internal fields are refused by name;
 * unknown fields are dropped. The parsed value is what travels to an engine.
 * Source: OpenAI API reference (chat completions, completions); field limits are ours.
 */
import { z } from "zod";
import { MAX_TOKENS_MAX, MESSAGES_MAX, N_MAX, STOP_MAX, TOOLS_MAX } from "./limits.ts";

/** Fields by which a client could command an engine. Presence at the top level is `engine_internal_field`. */
export const ENGINE_INTERNAL_FIELDS: readonly string[] = [
  "kv_transfer_params",
  "ec_transfer_params",
  "bootstrap_host",
  "bootstrap_port",
  "bootstrap_room",
  "disagg_spec",
  "disagg_prefill_dp_rank",
  "data_parallel_rank",
  "cache_salt",
  "priority",
  "prompt_embeds",
  "request_id",
  "vllm_xargs",
  "return_token_ids",
  "lora_path",
  "rid",
  "custom_params",
];

const text_part = z.object({ type: z.literal("text"), text: z.string() });
const image_part = z.object({ type: z.literal("image_url"), image_url: z.object({ url: z.string(), detail: z.string().optional() }) });
const content = z.union([z.string(), z.array(z.union([text_part, image_part])).max(256)]);
const tool_call = z.object({
  id: z.string(),
  type: z.literal("function"),
  function: z.object({ name: z.string(), arguments: z.string() }),
});

export const chatMessage = z.discriminatedUnion("role", [
  z.object({ role: z.literal("system"), content, name: z.string().optional() }),
  z.object({ role: z.literal("developer"), content, name: z.string().optional() }),
  z.object({ role: z.literal("user"), content, name: z.string().optional() }),
  z.object({
    role: z.literal("assistant"),
    content: content.nullable().optional(),
    name: z.string().optional(),
    refusal: z.string().nullable().optional(),
    tool_calls: z.array(tool_call).max(TOOLS_MAX).optional(),
  }),
  z.object({ role: z.literal("tool"), content, tool_call_id: z.string() }),
]);
/** @public */
export type ChatMessage = z.infer<typeof chatMessage>;

const tool = z.object({
  type: z.literal("function"),
  function: z.object({
    name: z.string().min(1).max(64),
    description: z.string().optional(),
    parameters: z.record(z.string(), z.unknown()).optional(),
    strict: z.boolean().nullable().optional(),
  }),
});

const sampling = {
  model: z.string().min(1).max(256),
  n: z.int().min(1).max(N_MAX).nullable().optional(),
  max_tokens: z.int().min(1).max(MAX_TOKENS_MAX).nullable().optional(),
  temperature: z.number().min(0).max(2).nullable().optional(),
  top_p: z.number().min(0).max(1).nullable().optional(),
  frequency_penalty: z.number().min(-2).max(2).nullable().optional(),
  presence_penalty: z.number().min(-2).max(2).nullable().optional(),
  seed: z.int().nullable().optional(),
  stop: z
    .union([z.string(), z.array(z.string().max(256)).max(STOP_MAX)])
    .nullable()
    .optional(),
  stream: z.boolean().nullable().optional(),
  stream_options: z.object({ include_usage: z.boolean().optional() }).nullable().optional(),
  user: z.string().max(512).optional(),
  logit_bias: z.record(z.string(), z.number()).nullable().optional(),
};

export const chatRequest = z.object({
  ...sampling,
  messages: z.array(chatMessage).min(1).max(MESSAGES_MAX),
  max_completion_tokens: z.int().min(1).max(MAX_TOKENS_MAX).nullable().optional(),
  logprobs: z.boolean().nullable().optional(),
  top_logprobs: z.int().min(0).max(20).nullable().optional(),
  tools: z.array(tool).max(TOOLS_MAX).optional(),
  tool_choice: z
    .union([z.enum(["none", "auto", "required"]), z.object({ type: z.literal("function"), function: z.object({ name: z.string() }) })])
    .optional(),
  parallel_tool_calls: z.boolean().optional(),
  response_format: z
    .union([
      z.object({ type: z.enum(["text", "json_object"]) }),
      z.object({
        type: z.literal("json_schema"),
        json_schema: z.object({
          name: z.string(),
          description: z.string().optional(),
          schema: z.record(z.string(), z.unknown()).optional(),
          strict: z.boolean().nullable().optional(),
        }),
      }),
    ])
    .optional(),
  reasoning_effort: z.string().nullable().optional(),
});
export type ChatRequest = z.infer<typeof chatRequest>;

export const completionRequest = z.object({
  ...sampling,
  prompt: z.union([z.string(), z.array(z.string()).min(1).max(1), z.array(z.int().min(0)).min(1).max(MAX_TOKENS_MAX)]),
  echo: z.boolean().nullable().optional(),
  suffix: z.string().nullable().optional(),
  logprobs: z.int().min(0).max(5).nullable().optional(),
  best_of: z.int().min(1).max(N_MAX).nullable().optional(),
});
export type CompletionRequest = z.infer<typeof completionRequest>;

/** OpenAI's usage block. `cached_tokens` is measured at the prefill leg. */
export const tokenUsage = z.object({
  prompt_tokens: z.int().min(0),
  completion_tokens: z.int().min(0),
  total_tokens: z.int().min(0),
  prompt_tokens_details: z.object({ cached_tokens: z.int().min(0) }).optional(),
});
export type TokenUsage = z.infer<typeof tokenUsage>;
