/** The bodies this server reads: the fields it acts on. Anything else is accepted and ignored, as vLLM does. */
import { z } from "zod";

const message = z.looseObject({ role: z.string(), content: z.unknown().optional(), tool_calls: z.array(z.unknown()).optional() });
export type Message = z.infer<typeof message>;

const count = z.int().min(1).nullish();
const shared = {
  model: z.string().optional(),
  n: z.int().min(1).max(64).nullish(),
  max_tokens: count,
  min_tokens: z.int().min(0).nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_usage: z.boolean().nullish(), continuous_usage_stats: z.boolean().nullish() }).nullish(),
  stop: z.union([z.string(), z.array(z.string())]).nullish(),
  seed: z.int().nullish(),
  ignore_eos: z.boolean().nullish(),
  priority: z.int().nullish(),
  cache_salt: z.string().min(1, "must be a non-empty string if provided.").nullish(),
  kv_transfer_params: z.record(z.string(), z.unknown()).nullish(),
};

const tool = z.looseObject({
  function: z.looseObject({ name: z.string(), parameters: z.record(z.string(), z.unknown()).nullish() }),
});

export const chatBody = z.looseObject({
  ...shared,
  messages: z.array(message).min(1),
  max_completion_tokens: count,
  tools: z.array(tool).optional(),
  tool_choice: z.union([z.string(), z.looseObject({ function: z.looseObject({ name: z.string() }) })]).nullish(),
  response_format: z
    .looseObject({ type: z.string(), json_schema: z.looseObject({ schema: z.record(z.string(), z.unknown()).nullish() }).nullish() })
    .nullish(),
  logprobs: z.boolean().nullish(),
});
export type ChatBody = z.infer<typeof chatBody>;

export const completionBody = z.looseObject({
  ...shared,
  prompt: z.union([z.string(), z.array(z.string()).length(1), z.array(z.int().min(0)).min(1)]),
  echo: z.boolean().nullish(),
  logprobs: z.int().nullish(),
});
export type CompletionBody = z.infer<typeof completionBody>;

export const tokenizeBody = z.looseObject({
  prompt: z.string().optional(),
  messages: z.array(message).optional(),
});

/** What a decode request says of the KV that it is to pull; `null` for a request that pulls nothing. */
export type RemoteKv = {
  readonly host: string;
  readonly port: number;
  readonly engine_id: string;
  readonly request_id: string;
  readonly block_ids: readonly number[];
  /** What prefill says it found in its cache; reported back unchecked, as vLLM does. */
  readonly cached_tokens: number | null;
  /** GPUs of the instance that has it. */
  readonly gpus: number;
};

/**
 * How vLLM 0.32 takes a decode leg's parameters. `fatal` kills the whole engine, `hangs` never answers and kills the engine when
 * the client goes away: both seen on a real pair. They are imitated so that a gateway which lets one through meets it here.
 */
export type HandoverReading =
  | { readonly type: "none" }
  | { readonly type: "prefill" }
  | { readonly type: "pull"; readonly remote: RemoteKv }
  | { readonly type: "fatal" }
  | { readonly type: "hangs" };

export function readHandover(
  params: Readonly<Record<string, unknown>> | null | undefined,
  prompt_tokens: number,
  block: number,
): HandoverReading {
  if (params?.["do_remote_decode"] === true) return { type: "prefill" };
  if (params?.["do_remote_prefill"] !== true) return { type: "none" };
  const groups = params["remote_block_ids"];
  if (!Array.isArray(groups) || !Array.isArray(groups[0])) return { type: "fatal" };
  const block_ids = groups[0].filter((id): id is number => Number.isInteger(id));
  if (block_ids.length < Math.ceil(prompt_tokens / block)) return { type: "fatal" };
  const { remote_host: host, remote_port: port, remote_engine_id: engine_id, remote_request_id: request_id } = params;
  if (typeof host !== "string" || typeof port !== "number" || typeof engine_id !== "string" || typeof request_id !== "string") {
    return { type: "hangs" };
  }
  const cached = params["remote_prefill_cached_tokens"];
  const cached_tokens = typeof cached === "number" ? cached : null;
  const gpus = width(params["tp_size"]) * width(params["pp_size"]);
  return { type: "pull", remote: { host, port, engine_id, request_id, block_ids, cached_tokens, gpus } };
}

const width = (size: unknown): number => (typeof size === "number" && Number.isInteger(size) && size > 0 ? size : 1);
