/** How an engine's way of failing is called here. `cause` decides retry, so each way has exactly one. */
import { failure } from "../../../schema/core/errors.ts";
import type { LegFailure } from "../../policy/vocabulary.ts";
import { isRecord } from "./answer.ts";

const DETAIL_CHARS_MAX = 500;

export const engineFailed = (cause: LegFailure["cause"], detail: string): LegFailure => ({
  cause,
  failure: failure("engine_failed", detail),
});

/** `pulls`: a decode leg that was to fetch KV. vLLM says only "Internal server error" when that fails, so a 5xx there is taken for it. */
export function statusFailure(status: number, body: string, pulls: boolean): LegFailure {
  if (status >= 500 && status !== 503) {
    return pulls ? engineFailed("kv_lost", "the KV cache could not be fetched") : engineFailed("status", `the engine answered ${status}`);
  }
  if (status === 503 || status === 429) return { cause: "status", failure: failure("no_capacity", `the engine answered ${status}`) };
  if (status === 401 || status === 403) return engineFailed("status", "the engine refused the gateway's credentials");
  const { message, param } = errorOf(body);
  if (status === 404) return { cause: "rejected", failure: failure("model_not_found", message) };
  const too_long = param === "input_tokens" || /maximum context length|max_model_len/.test(message);
  return { cause: "rejected", failure: failure(too_long ? "context_too_long" : "engine_rejected", message, param) };
}

/** A refusal's words are about the request and go to the client; a 5xx's may be about our insides and do not. */
function errorOf(body: string): { readonly message: string; readonly param?: string } {
  try {
    const json: unknown = JSON.parse(body);
    const error = isRecord(json) && isRecord(json["error"]) ? json["error"] : {};
    const message = typeof error["message"] === "string" ? error["message"].slice(0, DETAIL_CHARS_MAX) : "the engine refused the request";
    return { message, ...(typeof error["param"] === "string" ? { param: error["param"] } : {}) };
  } catch {
    return { message: "the engine refused the request" };
  }
}
