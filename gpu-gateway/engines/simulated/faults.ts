/**
 * Faults for tests (`--sim-control`), the list of "Engine" in the fault reference. A fault is armed for the next `count` requests
 * that match, first armed first used; `slow`, `kv_lost` and `kv_late` are states of the instance until cleared.
 */
import { z } from "zod";

export const FAULTS_MAX = 64; // armed at once; more: 400

const REQUEST_FAULTS = [
  "hang", // no answer (after_tokens absent), or silence after k tokens; /health stays 200
  "cut", // the connection is destroyed after k tokens
  "garbage", // after k tokens, bytes that are no event, then the stream goes on
  "bad_json", // after k tokens, an event whose data is not JSON
  "error_event", // after k tokens, `data: {"error": …}` and [DONE]
  "no_usage", // no usage block
  "wrong_usage", // negative and absurd counts
  "early_end", // the stream ends cleanly after k tokens, without finish_reason and [DONE]
  "after_done", // more tokens after [DONE]
  "extra_answer", // an unsolicited answer on the connection once it is idle
  "wrong_id", // the answer names another request
  "dribble", // one byte a write
  "crlf", // events end with \r\n\r\n, with comments between them
  "status", // `status` (500 or 503, say) instead of an answer
  "no_params", // a prefill answer without kv_transfer_params
  "params", // a prefill answer whose kv_transfer_params are overwritten by `params`
] as const;

const fault = z.object({
  fault: z.enum([...REQUEST_FAULTS, "slow", "kv_lost", "kv_late"]),
  count: z.int().min(1).max(1_000_000).default(1),
  /** Which requests it meets; absent: any. */
  leg: z.enum(["prefill", "decode", "whole"]).optional(),
  after_tokens: z.int().min(0).optional(),
  status: z.int().min(400).max(599).default(500),
  /** `slow`: step times are multiplied. */
  factor: z.number().min(0.001).default(1),
  /** `kv_late`: a pull is answered so much later. `extra_answer`: it is sent so much later. */
  delay_ms: z.int().min(0).default(0),
  params: z.record(z.string(), z.unknown()).optional(),
});
export type Fault = z.infer<typeof fault>;
export const faultsBody = z.union([fault.transform((one) => [one]), z.array(fault).max(FAULTS_MAX)]);

export class Faults {
  kv_lost = false;
  kv_delay_ms = 0;
  slowdown = 1;
  #armed: { readonly fault: Fault; left: number }[] = [];

  /** False when there are too many. */
  arm(faults: readonly Fault[]): boolean {
    if (this.#armed.length + faults.length > FAULTS_MAX) return false;
    for (const each of faults) {
      if (each.fault === "slow") this.slowdown = each.factor;
      else if (each.fault === "kv_lost") this.kv_lost = true;
      else if (each.fault === "kv_late") this.kv_delay_ms = each.delay_ms;
      else this.#armed.push({ fault: each, left: each.count });
    }
    return true;
  }

  clear(): void {
    this.#armed = [];
    this.kv_lost = false;
    this.kv_delay_ms = 0;
    this.slowdown = 1;
  }

  take(leg: "prefill" | "decode" | "whole"): Fault | null {
    const index = this.#armed.findIndex(({ fault: each }) => each.leg === undefined || each.leg === leg);
    const found = this.#armed[index];
    if (found === undefined) return null;
    found.left--;
    if (found.left === 0) this.#armed.splice(index, 1);
    return found.fault;
  }
}
