/**
 * What a leg will need at its instance, before anything has run: its worst case. A leg that is placed by its worst case never
 * has to be preempted for memory; what that costs in concurrency is for a better estimate to win back.
 */
import type { Call, LegRole } from "../vocabulary.ts";

/** KV tokens at the leg's peak. A prefill leg computes one token; the others may use all that the client allows. */
export function kvDemand(call: Call, role: LegRole): number {
  return role === "prefill" ? call.prompt_tokens + 1 : call.prompt_tokens + call.max_tokens;
}

/** Prompt tokens left to compute. The engine always computes the last one, to have something to sample from. */
export function uncachedTokens(call: Call, hit_tokens: number): number {
  return Math.max(1, call.prompt_tokens - hit_tokens);
}
