/**
 * What goes to the engine on each leg: the client's allow-listed body, and what only the gateway may set (I11).
 *
 * Beyond the protocol's recipe the prefill leg has no `stop` and sets `ignore_eos`: its one token is thrown away, but a finish
 * for any reason but length makes vLLM return no parameters and free the blocks. Decode samples that token itself.
 */
import type { Handover, LegRequest } from "../../ports/engine.ts";

const PREFILL_PARAMS = {
  do_remote_decode: true,
  do_remote_prefill: false,
  remote_engine_id: null,
  remote_block_ids: null,
  remote_host: null,
  remote_port: null,
};

export function prefillBody(leg: LegRequest): string {
  const body: Record<string, unknown> = { ...leg.body };
  for (const field of ["stream_options", "min_tokens", "min_completion_tokens", "stop"]) delete body[field];
  const given = (field: string) => body[field] !== undefined && body[field] !== null;
  const limits = ["max_tokens", "max_completion_tokens"].filter(given);
  delete body["max_completion_tokens"];
  delete body["max_tokens"];
  for (const field of limits.length === 0 ? ["max_tokens"] : limits) body[field] = 1;
  return JSON.stringify({
    ...body,
    stream: false,
    ignore_eos: true,
    cache_salt: leg.cache_salt,
    kv_transfer_params: PREFILL_PARAMS,
  });
}

/**
 * The decode leg of a pair, or the only leg of a whole call. Always streamed, always with usage; a whole leg from its first chunk on, for one
 * that is cut off or cancelled has no last.
 */
export function streamedBody(leg: LegRequest, handover: Handover | null): string {
  return JSON.stringify({
    ...leg.body,
    stream: true,
    stream_options: { include_usage: true, ...(handover === null ? { continuous_usage_stats: true } : {}) },
    cache_salt: leg.cache_salt,
    ...(handover === null ? {} : { kv_transfer_params: handover.params }),
  });
}
