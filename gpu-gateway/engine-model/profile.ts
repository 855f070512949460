/**
 * How long an A100 takes: the coefficients of one model on one GPU, and the formulas over them. Times are microseconds.
 *
 * Sources, per field:
 * - `dense_us`: vidur's A100 profile of Llama-3-8B at TP 1: medians of all per-layer operators except attention, times 32 layers
 *   (reference figures: 1 token 9.7 ms, 512 → 34.6, 2,048 → 145.6, 4,096 → 273.6). Interpolated between the points.
 * - attention: a roofline. Prefill does 4·heads·d_head FLOPs per (new token, token of context) and layer at 0.5 of 312 TFLOP/s;
 *   decode reads 131,072 B of KV per token of context at 0.75 of 2.039 TB/s.
 * - `host_us`: about 3 ms of scheduling and launch overhead a step.
 * - KV hand-over: NVLink, 300 GB/s each way (A100 SXM). `handover_fixed_us` is an assumption (handshake and notification).
 * - sleep and wake: weights over PCIe 4 x16 at 25 GB/s plus 0.2 s, which agrees with published wakes of 0.26 s (0.6 B parameters)
 *   and 3 to 6 s (large models).
 * - loading: an assumption, not a measurement: weights from local NVMe at 2 GB/s, then 12 s to start the engine and capture graphs.
 */
export type ModelProfile = {
  readonly name: string;
  readonly weight_bytes: number;
  readonly kv_bytes_per_token: number;
  readonly context_tokens: number;
  /** KV tokens that fit beside the weights on one 80 GB GPU at 0.9 utilisation. */
  readonly kv_tokens: number;
  readonly dense_us: readonly (readonly [tokens: number, us: number])[];
  readonly prefill_us_per_pair: number;
  readonly decode_us_per_context_token: number;
  readonly host_us: number;
  readonly handover_bytes_per_us: number;
  readonly handover_fixed_us: number;
  readonly sleep_fixed_us: number;
  readonly host_copy_bytes_per_us: number;
  readonly storage_bytes_per_us: number;
  readonly start_us: number;
};

const LAYERS = 32;
const HEADS = 32;
const HEAD_DIM = 128;

export const LLAMA_3_8B_A100: ModelProfile = {
  name: "llama-3-8b",
  weight_bytes: 16_060_000_000,
  kv_bytes_per_token: 131_072,
  context_tokens: 8_192,
  // (0.9 × 80e9 − 16.06e9 weights − about 4e9 activations) / 131,072 B, rounded down to a round figure.
  kv_tokens: 393_216,
  dense_us: [
    [1, 9_696],
    [16, 10_128],
    [32, 10_912],
    [64, 11_232],
    [128, 13_184],
    [192, 16_768],
    [256, 19_488],
    [512, 34_640],
    [1_024, 75_136],
    [2_048, 145_568],
    [4_096, 273_568],
    [8_192, 545_168],
  ],
  prefill_us_per_pair: (4 * HEADS * HEAD_DIM * LAYERS) / (0.5 * 312e12) / 1e-6,
  decode_us_per_context_token: 131_072 / (0.75 * 2.039e12) / 1e-6,
  host_us: 3_000,
  handover_bytes_per_us: 300_000,
  handover_fixed_us: 1_000,
  sleep_fixed_us: 200_000,
  host_copy_bytes_per_us: 25_000,
  storage_bytes_per_us: 2_000,
  start_us: 12_000_000,
};

export const PROFILES: Readonly<Record<string, ModelProfile>> = { [LLAMA_3_8B_A100.name]: LLAMA_3_8B_A100 };

/** What one iteration computes. */
export type StepWork = {
  /** Tokens through the dense layers: prefill chunks and one per decoding sequence. */
  readonly tokens: number;
  /** Sum over prefill chunks of new tokens × the context that each attends to. */
  readonly prefill_pairs: number;
  /** Sum of context lengths over decoding sequences. */
  readonly decode_context: number;
};

export function stepUs(profile: ModelProfile, work: StepWork): number {
  const attention = work.prefill_pairs * profile.prefill_us_per_pair + work.decode_context * profile.decode_us_per_context_token;
  return Math.round(profile.host_us + denseUs(profile, work.tokens) + attention);
}

/** Pairs that a chunk of `fresh` tokens makes when `before` tokens of its sequence are already computed (causal mask). */
export function prefillPairs(before: number, fresh: number): number {
  return fresh * before + (fresh * (fresh + 1)) / 2;
}

/** One transfer alone on the link; contention between transfers is not modelled. */
export function handoverUs(profile: ModelProfile, tokens: number): number {
  return Math.round(profile.handover_fixed_us + (tokens * profile.kv_bytes_per_token) / profile.handover_bytes_per_us);
}

export function sleepUs(profile: ModelProfile, level: 1 | 2): number {
  return Math.round(profile.sleep_fixed_us + (level === 1 ? profile.weight_bytes / profile.host_copy_bytes_per_us : 0));
}

/** Waking from level 2 reads the weights from storage again. */
export function wakeUs(profile: ModelProfile, level: 1 | 2): number {
  const bytes_per_us = level === 1 ? profile.host_copy_bytes_per_us : profile.storage_bytes_per_us;
  return Math.round(profile.sleep_fixed_us + profile.weight_bytes / bytes_per_us);
}

export function loadUs(profile: ModelProfile): number {
  return Math.round(profile.start_us + profile.weight_bytes / profile.storage_bytes_per_us);
}

function denseUs(profile: ModelProfile, tokens: number): number {
  const points = profile.dense_us;
  const first = points[0];
  if (tokens <= 0 || first === undefined) return 0;
  let [low, low_us] = first;
  if (tokens <= low) return low_us;
  let slope = 0;
  for (const [high, high_us] of points.slice(1)) {
    slope = (high_us - low_us) / (high - low);
    if (tokens <= high) return low_us + slope * (tokens - low);
    [low, low_us] = [high, high_us];
  }
  return low_us + slope * (tokens - low); // beyond the table: the last segment goes on
}
