/**
 * How long one instance takes: a model (models/) put on tp × pp A100s. Times are microseconds.
 *
 * A step's time, for models known by their operators (Llama 3):
 *   host + dense(tokens) + 2·layers·all-reduce(tokens) at TP > 1 + (pp − 1)·send-receive(tokens) + attention
 *   - host: 3 ms of scheduling and launching a step.
 *   - dense: measured, all matrix products, norms and additions.
 *   - attention, a roofline: prefill does 4·heads·d_head FLOPs per (new token, token of context) and layer at 0.5 of 312 TFLOP/s; decode
 *     reads the KV of its context at 0.75 of 2.039 TB/s. Both are split over the TP ranks.
 * and for models known by whole steps (OPT, DistServe's polynomials), prompts and decoding sequences apart as DistServe's engine runs them:
 *   prefill a + bΣl + cΣl²; decode a + bΣcontext + c·batch. In a step of both, a decoding sequence is one more token of the prefill,
 *   plus its context. The chunks of a prompt add up to its Σl²: l² = 2·pairs − l.
 *
 * Memory: KV has what 0.9 of 80 GB a GPU leaves beside the weights and 4 GB a GPU of activations and graphs.
 *
 * Sleep, wake and load: each GPU copies its part of the weights over its own PCIe 4 x16 (25 GB/s) or from storage (2 GB/s a GPU, an
 * assumption: striped NVMe or the page cache keeps up with all of a node's GPUs), at once. Sleep and wake add 0.2 s, which agrees with
 * published wakes of 0.26 s (0.6 B parameters) and 3 to 6 s (large models); a load adds 12 s to start the engine and capture graphs, an
 * assumption.
 */
import { A100 } from "./a100.ts";
import { allReduceUs, sendReceiveUs } from "./collective.ts";
import type { AllReduce } from "./collective.ts";
import { sumOf, rescaled, valueAt } from "./curve.ts";
import type { Curve } from "./curve.ts";
import { BLOCK_TOKENS } from "./kv-blocks.ts";
import { LLAMA_3_70B } from "./models/llama-3-70b.ts";
import { LLAMA_3_8B } from "./models/llama-3-8b.ts";
import { OPT_13B } from "./models/opt-13b.ts";
import { OPT_66B } from "./models/opt-66b.ts";
import type { ModelSpec, StepPolynomials } from "./models/spec.ts";
import { A100_FABRIC } from "./transfer.ts";

export const MODELS: Readonly<Record<string, ModelSpec>> = {
  [LLAMA_3_8B.name]: LLAMA_3_8B,
  [LLAMA_3_70B.name]: LLAMA_3_70B,
  [OPT_13B.name]: OPT_13B,
  [OPT_66B.name]: OPT_66B,
};

export type Deployment = {
  /** A name in MODELS. */
  readonly model: string;
  readonly tp: number;
  readonly pp: number;
  readonly all_reduce: AllReduce;
  /** An instance wider than this lies on consecutive nodes. */
  readonly gpus_per_node: number;
};

export type StepTimes =
  | {
      readonly type: "operators";
      /** Host, dense part, all-reduces and sends, by tokens. */
      readonly tokens_us: Curve;
      readonly prefill_us_per_pair: number;
      readonly decode_us_per_context_token: number;
    }
  | {
      readonly type: "polynomials";
      readonly polynomials: StepPolynomials;
      /** Between stages, by tokens. */
      readonly send_us: Curve;
    };

export type ModelProfile = {
  readonly name: string;
  readonly tp: number;
  readonly pp: number;
  readonly gpus: number;
  readonly weight_bytes: number;
  /** On all of its GPUs together. */
  readonly kv_bytes_per_token: number;
  readonly context_tokens: number;
  /** KV tokens that fit beside the weights. */
  readonly kv_tokens: number;
  readonly times: StepTimes;
  /** Not divided among pipeline stages. */
  readonly host_us: number;
  readonly handover_bytes_per_us: number;
  readonly handover_fixed_us: number;
  readonly sleep_fixed_us: number;
  readonly host_copy_bytes_per_us: number;
  readonly storage_bytes_per_us: number;
  readonly start_us: number;
};

export type ProfileOutcome =
  | { readonly type: "profile"; readonly profile: ModelProfile }
  /** What is wrong, and what would do. */
  | { readonly type: "fault"; readonly fault: string };

const HOST_US = 3_000;
const SLEEP_FIXED_US = 200_000;
const STORAGE_BYTES_PER_US = 2_000;
const START_US = 12_000_000;
const ACTIVATION_BYTES = 2;

export function profileOf(deployment: Deployment): ProfileOutcome {
  const { model, tp, pp, gpus_per_node } = deployment;
  const fault = (text: string): ProfileOutcome => ({ type: "fault", fault: text });
  const spec = MODELS[model];
  if (spec === undefined) return fault(`model ${model} is not known: ${Object.keys(MODELS).join(", ")}`);
  const degrees = Object.keys(spec.times.type === "operators" ? spec.times.dense_us : spec.times.by_tp);
  if (!degrees.includes(String(tp))) return fault(`${model} was not measured at tp ${tp}: it can be ${degrees.join(", ")}`);
  if (!Number.isInteger(pp) || pp < 1 || spec.layers % pp !== 0) return fault(`pp ${pp} does not divide ${model}'s ${spec.layers} layers`);
  if (!Number.isInteger(gpus_per_node) || gpus_per_node < 1) return fault(`gpus_per_node ${gpus_per_node}: an integer of at least 1`);
  const stages = Array.from({ length: pp }, (_, stage) => stage * tp);
  if (tp <= gpus_per_node && stages.some((first) => nodeOf(first, gpus_per_node) !== nodeOf(first + tp - 1, gpus_per_node))) {
    return fault(`stages of ${tp} GPUs do not fill nodes of ${gpus_per_node}: one of ${pp} would lie on two nodes`);
  }
  const times = timesOf(spec, deployment);
  if (times === null) {
    return fault(`an all-reduce over ${tp} GPUs, ${Math.min(tp, gpus_per_node)} on a node, was not measured: put tp ${tp} on one node`);
  }
  const gpus = tp * pp;
  const kv_tokens = kvTokens(spec, gpus);
  if (kv_tokens < spec.context_tokens) {
    const room = kv_tokens < 0 ? "no KV" : `KV of ${kv_tokens} tokens, less than one context of ${spec.context_tokens}`;
    return fault(`${model} leaves room for ${room} on ${gpus} GPU${gpus === 1 ? "" : "s"} of 80 GB: take a larger tp or pp`);
  }
  const profile: ModelProfile = {
    name: spec.name,
    tp,
    pp,
    gpus,
    weight_bytes: spec.weight_bytes,
    kv_bytes_per_token: spec.kv_bytes_per_token,
    context_tokens: spec.context_tokens,
    kv_tokens,
    times,
    host_us: times.type === "operators" ? HOST_US : 0,
    handover_bytes_per_us: A100.nvlink_bytes_per_us * gpus,
    handover_fixed_us: A100_FABRIC.handshake_us,
    sleep_fixed_us: SLEEP_FIXED_US,
    host_copy_bytes_per_us: A100.pcie_bytes_per_us,
    storage_bytes_per_us: STORAGE_BYTES_PER_US,
    start_us: START_US,
  };
  return { type: "profile", profile };
}

/** Of a deployment that is known to be sound. */
export function mustProfile(deployment: Deployment): ModelProfile {
  const outcome = profileOf(deployment);
  if (outcome.type === "fault") throw new RangeError(outcome.fault);
  return outcome.profile;
}

export const LLAMA_3_8B_A100: ModelProfile = mustProfile({ model: "llama-3-8b", tp: 1, pp: 1, all_reduce: "nccl", gpus_per_node: 8 });

/** What one iteration computes. */
export type StepWork = {
  /** Tokens through the dense layers: prefill chunks and one per decoding sequence. */
  readonly tokens: number;
  /** Sum over prefill chunks of new tokens × the context that each attends to. */
  readonly prefill_pairs: number;
  /** Sum of context lengths over decoding sequences. */
  readonly decode_context: number;
  /** Of `tokens`, those of prefill chunks; and the decoding sequences, one token each. */
  readonly prefill_tokens: number;
  readonly decodes: number;
};

/** From the begin of an iteration until its tokens exist, through all pipeline stages. */
export function stepUs(profile: ModelProfile, work: StepWork): number {
  if (work.tokens <= 0) return profile.host_us;
  const { times } = profile;
  if (times.type === "polynomials") return Math.round(polynomialUs(times.polynomials, work) + valueAt(times.send_us, work.tokens));
  const attention = work.prefill_pairs * times.prefill_us_per_pair + work.decode_context * times.decode_us_per_context_token;
  return Math.round(valueAt(times.tokens_us, work.tokens) + attention);
}

/** From the begin of an iteration until the next one, of other sequences, may follow it into the pipeline. At most pp are under way. */
export function stageUs(profile: ModelProfile, work: StepWork): number {
  return Math.round(profile.host_us + (stepUs(profile, work) - profile.host_us) / profile.pp);
}

/** Pairs that a chunk of `fresh` tokens makes when `before` tokens of its sequence are already computed (causal mask). */
export function prefillPairs(before: number, fresh: number): number {
  return fresh * before + (fresh * (fresh + 1)) / 2;
}

/** One transfer alone between two instances of this profile in one node; transfer.ts knows of others and of other nodes. */
export function handoverUs(profile: ModelProfile, tokens: number): number {
  return Math.round(profile.handover_fixed_us + (tokens * profile.kv_bytes_per_token) / profile.handover_bytes_per_us);
}

export function sleepUs(profile: ModelProfile, level: 1 | 2): number {
  return Math.round(profile.sleep_fixed_us + (level === 1 ? profile.weight_bytes / profile.gpus / profile.host_copy_bytes_per_us : 0));
}

/** Waking from level 2 reads the weights from storage again. */
export function wakeUs(profile: ModelProfile, level: 1 | 2): number {
  const bytes_per_us = level === 1 ? profile.host_copy_bytes_per_us : profile.storage_bytes_per_us;
  return Math.round(profile.sleep_fixed_us + profile.weight_bytes / profile.gpus / bytes_per_us);
}

export function loadUs(profile: ModelProfile): number {
  return Math.round(profile.start_us + profile.weight_bytes / profile.gpus / profile.storage_bytes_per_us);
}

function polynomialUs({ prefill, decode_small, decode_large, large_from }: StepPolynomials, work: StepWork): number {
  const decode = work.decodes < large_from ? decode_small : decode_large;
  const contexts_ms = decode[1] * work.decode_context;
  if (work.prefill_tokens === 0) return 1_000 * (decode[0] + contexts_ms + decode[2] * work.decodes);
  const squares = 2 * work.prefill_pairs - work.prefill_tokens;
  return 1_000 * (prefill[0] + prefill[1] * work.tokens + prefill[2] * squares + contexts_ms);
}

/** Null: the collective that it needs was not measured. */
function timesOf(spec: ModelSpec, { tp, pp, all_reduce, gpus_per_node }: Deployment): StepTimes | null {
  const by_tokens = (curve: Curve): Curve => rescaled(curve, spec.hidden * ACTIVATION_BYTES);
  const crossings = Array.from(
    { length: pp - 1 },
    (_, i) => nodeOf((i + 1) * tp - 1, gpus_per_node) !== nodeOf((i + 1) * tp, gpus_per_node),
  );
  const sends = [false, true].map((far) => ({
    curve: by_tokens(sendReceiveUs(far)),
    times: crossings.filter((crossing) => crossing === far).length,
  }));
  if (spec.times.type === "polynomials") {
    const polynomials = spec.times.by_tp[tp];
    if (tp > gpus_per_node || polynomials === undefined) return null; // measured within a node
    return { type: "polynomials", polynomials, send_us: sumOf(sends, 1) };
  }
  const dense = spec.times.dense_us[tp];
  const reduce = tp === 1 ? [] : allReduceUs({ ranks: tp, per_node: Math.min(tp, gpus_per_node) }, all_reduce);
  if (dense === undefined || reduce === null) return null;
  const reductions = tp === 1 ? 0 : 2 * spec.layers;
  const host: Curve = [[1, HOST_US]];
  const parts = [{ curve: host, times: 1 }, { curve: dense, times: 1 }, { curve: by_tokens(reduce), times: reductions }, ...sends];
  return {
    type: "operators",
    tokens_us: sumOf(parts, 1),
    prefill_us_per_pair: (4 * spec.attention_width * spec.layers) / (A100.prefill_attention_share * A100.flops_per_us * tp),
    decode_us_per_context_token: spec.kv_bytes_per_token / (A100.decode_attention_share * A100.hbm_bytes_per_us * tp),
  };
}

function nodeOf(gpu: number, gpus_per_node: number): number {
  return Math.floor(gpu / gpus_per_node);
}

function kvTokens(spec: ModelSpec, gpus: number): number {
  const bytes = gpus * (A100.memory_share * A100.memory_bytes - A100.reserved_bytes) - spec.weight_bytes;
  return Math.floor(bytes / spec.kv_bytes_per_token / BLOCK_TOKENS) * BLOCK_TOKENS;
}
