/** The adapter for vLLM's OpenAI server, one or two legs over NixlConnector (prefill first, pull mode). */
import type { Engine, EngineLoad, EngineProbe, LegRequest, LegSink, RunningLeg } from "../../ports/engine.ts";
import type { Capabilities } from "../../policy/vocabulary.ts";
import { HttpClient } from "../http.ts";
import { PROTOCOL } from "./handover.ts";
import { VllmLeg } from "./leg.ts";
import { meanOf, samplesOf, sumOf } from "./metrics.ts";
import { isRecord } from "./answer.ts";

export type VllmOptions = {
  readonly url: string;
  readonly api_key?: string;
  readonly connect_timeout_ms?: number;
  readonly connections_max?: number;
  /** What the engine was started with and does not tell: `--max-num-seqs`, the connector's lease, backend and KV dtype. */
  readonly slots?: number;
  readonly kv_lease_ms?: number;
  readonly kv_compat?: string;
  /** Overrides what the probe finds. */
  readonly capabilities?: Partial<Capabilities>;
  readonly kv_tokens?: number;
  /** Taken off the lease: the decode leg must be accepted so long before its end. */
  readonly handover_margin_ms?: number;
  readonly check_answer_id?: boolean;
};

const SLOTS = 256; // vLLM's default of --max-num-seqs
const KV_LEASE_MS = 30_000;
const HANDOVER_MARGIN_MS = 2_000;
const CONNECTIONS_MAX = 1_024;
const CONNECT_TIMEOUT_MS = 2_000;
const CONTROL_TIMEOUT_MS = 5_000; // /health, /metrics, /version, /v1/models
const SLEEP_TIMEOUT_MS = 120_000; // /sleep and /wake_up answer when they are through

/** A probe or a control request that did not work. Legs never throw: they tell their sink. */
export class EngineUnavailable extends Error {}

export function createVllmEngine(options: VllmOptions): Engine {
  const http = new HttpClient({
    url: options.url,
    connect_timeout_ms: options.connect_timeout_ms ?? CONNECT_TIMEOUT_MS,
    connections_max: options.connections_max ?? CONNECTIONS_MAX,
  });
  const headers: Record<string, string> = options.api_key === undefined ? {} : { authorization: `Bearer ${options.api_key}` };
  const kv_lease_ms = options.kv_lease_ms ?? KV_LEASE_MS;
  const settings = {
    headers,
    kv_lease_ms,
    handover_margin_ms: Math.min(options.handover_margin_ms ?? HANDOVER_MARGIN_MS, kv_lease_ms / 2),
    check_answer_id: options.check_answer_id ?? true,
  };
  let sleep_level: 1 | 2 = 1;

  async function ask(method: "GET" | "POST", path: string, timeout_ms: number, body?: string): Promise<string> {
    const request = { method, path, headers: body === undefined ? headers : { ...headers, "content-type": "application/json" } };
    const answer = await http.ask(body === undefined ? request : { ...request, body }, timeout_ms);
    if (answer.type === "unreachable") throw new EngineUnavailable(`${path}: ${answer.detail}`);
    if (answer.status !== 200) throw new EngineUnavailable(`${path}: status ${answer.status}`);
    return answer.text;
  }
  const get = (path: string) => ask("GET", path, CONTROL_TIMEOUT_MS);

  return {
    protocol: PROTOCOL,

    start(request: LegRequest, sink: LegSink): RunningLeg {
      const leg = new VllmLeg(request, sink, settings);
      leg.start(http);
      return leg;
    },

    async probe(): Promise<EngineProbe> {
      await get("/health");
      const [version, models, metrics] = await Promise.all([get("/version"), get("/v1/models"), get("/metrics")]);
      const sleeping = await http.ask({ method: "GET", path: "/is_sleeping", headers }, CONTROL_TIMEOUT_MS);
      const engine_version = readVersion(version);
      const legs = metrics.includes("vllm:nixl_") ? ("prefill_first" as const) : ("none" as const);
      const capabilities: Capabilities = {
        legs,
        sleep: sleeping.type === "answer" && sleeping.status === 200,
        sleep_while_paired: false, // known to fail or to kill the pair later; a version that survives it is named in the options
        priority: false, // only with --scheduling-policy priority, which no path tells
        kv_events: false, // read by nothing yet
        cancel: true,
        ...options.capabilities,
      };
      return {
        version: engine_version,
        kv_compat: `vllm-${engine_version}/${options.kv_compat ?? "default"}`,
        models: readModels(models),
        capabilities,
        slots: options.slots ?? SLOTS,
        kv_tokens: options.kv_tokens ?? readKvTokens(metrics),
        kv_lease_ms: capabilities.legs === "none" ? 0 : kv_lease_ms,
      };
    },

    async healthy(): Promise<boolean> {
      const answer = await http.ask({ method: "GET", path: "/health", headers }, CONTROL_TIMEOUT_MS);
      return answer.type === "answer" && answer.status === 200;
    },

    async load(): Promise<EngineLoad> {
      const metrics = await get("/metrics");
      return {
        running: sumOf(metrics, "vllm:num_requests_running"),
        waiting: sumOf(metrics, "vllm:num_requests_waiting"),
        kv_usage: meanOf(metrics, "vllm:kv_cache_usage_perc"),
      };
    },

    async sleep(level: 1 | 2): Promise<void> {
      await ask("POST", `/sleep?level=${level}`, SLEEP_TIMEOUT_MS);
      sleep_level = level;
    },

    async wake(): Promise<void> {
      if (sleep_level === 1) return void (await ask("POST", "/wake_up", SLEEP_TIMEOUT_MS));
      await ask("POST", "/wake_up?tags=weights", SLEEP_TIMEOUT_MS);
      await ask("POST", "/collective_rpc", SLEEP_TIMEOUT_MS, JSON.stringify({ method: "reload_weights" }));
      await ask("POST", "/wake_up?tags=kv_cache", SLEEP_TIMEOUT_MS);
    },

    close(): void {
      http.close();
    },
  };
}

function readVersion(text: string): string {
  const json = parse(text, "/version");
  if (typeof json["version"] !== "string") throw new EngineUnavailable("/version: no version");
  return json["version"];
}

function readModels(text: string): { id: string; context_tokens: number }[] {
  const { data } = parse(text, "/v1/models");
  if (!Array.isArray(data)) throw new EngineUnavailable("/v1/models: no list");
  return data.filter(isRecord).map((model) => ({ id: String(model["id"]), context_tokens: Number(model["max_model_len"] ?? 0) }));
}

function readKvTokens(metrics: string): number {
  const labels = samplesOf(metrics, "vllm:cache_config_info")[0]?.labels ?? {};
  const tokens = Number(labels["block_size"]) * Number(labels["num_gpu_blocks"]);
  return Number.isInteger(tokens) ? tokens : 0;
}

function parse(text: string, path: string): Record<string, unknown> {
  try {
    const json: unknown = JSON.parse(text);
    if (isRecord(json)) return json;
  } catch {
    // falls through to the one complaint
  }
  throw new EngineUnavailable(`${path}: not a JSON object`);
}
