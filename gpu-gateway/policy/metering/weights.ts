/**
 * Who pays for this interval? Each active leg in proportion to the work that it asks of one engine step (D5: intervals are split by
 * uncached prefill tokens, decoded tokens and KV block time, with weights from the cost model).
 *
 * One unit for all, so that legs of every kind compare on one instance: a microsecond of work per engine step on a reference
 * A100 80 GB with a dense 8B model in bf16. The figures are arithmetic on published peaks, not measurements; only their ratios
 * matter, because a weight only divides time that passed anyway.
 *  - Prefill: 2 × 8·10⁹ FLOP a token at half of 312 TFLOP/s ≈ 100 µs for each token that the prefix cache does not hold. Not
 *    capped at a step's token budget: prefills in flight together are worked off in turn, so the longer keeps the other waiting.
 *  - Decode: one token a step. Reading 16 GB of parameters at 2 TB/s takes 8 ms, which a batch of 32 shares: 250 µs; its own
 *    arithmetic 100 µs; reading its KV at 128 KiB a token of context ≈ 0.065 µs a token.
 *  - Whole: its prefill and its decode steps, averaged over the steps that it is expected to take.
 *  - Holding: KV that waits to be pulled computes nothing; it pays as much as reading that KV once a step.
 */
import type { CostAllocation } from "../policies.ts";

const PREFILL_US_PER_TOKEN = 100;
const DECODE_US_PER_STEP = 350;
const KV_NS_PER_TOKEN = 65;
const TOKENS_MAX = 10_000_000;
/** Beyond it a leg weighs no more: 131,072 tokens (the longest context) of prefill stay below. */
export const WEIGHT_MAX = 100_000_000;

export const weightByTokens: CostAllocation = {
  weight(leg) {
    const prompt = count(leg.prompt_tokens);
    const kv_tokens = count(leg.kv_tokens);
    const kv = Math.ceil((kv_tokens * KV_NS_PER_TOKEN) / 1_000);
    if (leg.holding) return bounded(kv);
    const prefill = Math.max(0, prompt - count(leg.hit_tokens)) * PREFILL_US_PER_TOKEN;
    const decode = DECODE_US_PER_STEP + kv;
    if (leg.role === "prefill") return bounded(prefill);
    if (leg.role === "decode") return bounded(decode);
    const steps = Math.max(0, kv_tokens - prompt);
    return bounded((prefill + steps * decode) / (1 + steps));
  },
};

const count = (tokens: number): number => (tokens > 0 ? Math.min(tokens, TOKENS_MAX) : 0);
const bounded = (weight: number): number => Math.min(WEIGHT_MAX, Math.max(1, Math.round(weight)));
