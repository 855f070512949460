/** Scorers: the load an instance would have with the leg on it; 0 is empty, 1 is full (a single long prompt may pass 1). */
import { kvDemand } from "../estimate/kv-demand.ts";
import type { InstanceView } from "../policies.ts";
import type { Call, LegRole } from "../vocabulary.ts";

/** A prefill instance is as busy as the prompt tokens that it has yet to compute, or as full as its KV. */
export function prefillLoad(view: InstanceView, call: Call, uncached_tokens: number): number {
  const work = (view.prefill_tokens + uncached_tokens) / view.instance.prefill_tokens_max;
  return Math.max(work, kvShare(view, call, "prefill"));
}

/** A decode instance is as busy as its slots or as full as its KV, whichever is worse. */
export function decodeLoad(view: InstanceView, call: Call, role: "decode" | "whole"): number {
  const slots = (view.legs + view.reserved + 1) / view.instance.slots;
  return Math.max(slots, kvShare(view, call, role));
}

const kvShare = (view: InstanceView, call: Call, role: LegRole): number =>
  (view.kv_tokens + kvDemand(call, role)) / view.instance.kv_tokens;
