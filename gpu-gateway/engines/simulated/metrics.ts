/** /metrics, in the names and labels of vLLM that a gateway reads. */
import { BLOCK_TOKENS } from "../../engine-model/kv-blocks.ts";
import type { Instance } from "./instance.ts";

export function metricsText(instance: Instance): string {
  const { model, counters, options } = instance;
  const labels = `engine="0",model_name="${options.profile.name}"`;
  const lines: string[] = [];
  const put = (type: "gauge" | "counter", name: string, samples: readonly (readonly [extra: string, value: number])[]) => {
    lines.push(`# TYPE vllm:${name} ${type}`);
    for (const [extra, value] of samples) lines.push(`vllm:${name}{${labels}${extra === "" ? "" : `,${extra}`}} ${value}`);
  };
  const gauge = (name: string, value: number) => put("gauge", name, [["", value]]);
  const counter = (name: string, value: number) => put("counter", `${name}_total`, [["", value]]);

  gauge("num_requests_running", model.running);
  gauge("num_requests_waiting", model.waiting);
  gauge("kv_cache_usage_perc", model.kv.used / model.kv.total);
  const asleep = instance.awake !== "awake";
  put("gauge", "engine_sleep_state", [
    ['sleep_state="awake"', asleep ? 0 : 1],
    ['sleep_state="weights_offloaded"', asleep && instance.sleep_level === 1 ? 1 : 0],
    ['sleep_state="discard_all"', asleep && instance.sleep_level === 2 ? 1 : 0],
  ]);
  counter("prefix_cache_queries", model.prefix_queries);
  counter("prefix_cache_hits", model.prefix_hits);
  counter("num_preemptions", model.preemptions);
  counter("prompt_tokens", counters.prompt_tokens);
  counter("generation_tokens", counters.generation_tokens);
  counter("nixl_num_failed_transfers", counters.kv_failed);
  counter("nixl_num_kv_expired_reqs", counters.kv_expired);
  put("gauge", "cache_config_info", [[`block_size="${BLOCK_TOKENS}",num_gpu_blocks="${model.kv.total}"`, 1]]);
  return `${lines.join("\n")}\n`;
}
