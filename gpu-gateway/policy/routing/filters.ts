/** Filters: which instances may serve a leg of this call, ever (by what they are) and now (by what they do). */
import type { Micros } from "../../../schema/core/time.ts";
import { kvDemand } from "../estimate/kv-demand.ts";
import type { InstanceView } from "../policies.ts";
import type { Call, LegRole } from "../vocabulary.ts";

/** Can be one side of a pair whose prefill goes first, and would hold the KV long enough for decode to take it. */
export function pairs(view: InstanceView, kv_lease_margin: Micros): boolean {
  const { role, capabilities, kv_lease } = view.instance;
  if (role === "both" || capabilities.legs !== "prefill_first") return false;
  return role === "decode" || kv_lease > kv_lease_margin;
}

/** Serves whole calls by its nature: it has both roles, or its engine knows no legs. */
export function servesWhole(view: InstanceView): boolean {
  const { role, capabilities } = view.instance;
  return role === "both" || (role === "decode" && capabilities.legs === "none");
}

/** Which of these serve a call that cannot be split: those by nature, or, where there is none, decode: it can prefill as well. */
export function servesUnsplit(instances: readonly InstanceView[]): (view: InstanceView) => boolean {
  return instances.some(servesWhole) ? servesWhole : (view) => view.instance.role === "decode";
}

/** The call's leg would fit it if it were ready and empty. */
export function couldServe(view: InstanceView, call: Call, role: LegRole): boolean {
  const { instance } = view;
  const context = role === "prefill" ? call.prompt_tokens + 1 : call.prompt_tokens + call.max_tokens;
  return context <= instance.context_tokens && kvDemand(call, role) <= instance.kv_tokens && instance.slots > 0;
}

/** Room right now: ready and reachable, a free slot, KV for the leg's worst case. */
export function hasRoom(view: InstanceView, call: Call, role: LegRole): boolean {
  return hasSlot(view, call, role) && view.kv_tokens + kvDemand(call, role) <= view.instance.kv_tokens;
}

/** It would be taken right now, though it may then have to wait inside the engine: ready and reachable, a free slot. */
export function hasSlot(view: InstanceView, call: Call, role: LegRole): boolean {
  return (
    view.state === "ready" && view.unreachable !== true && view.legs + view.reserved < view.instance.slots && couldServe(view, call, role)
  );
}

/** A prompt longer than the whole allowance goes when nothing else is being prefilled there: it must go some time. */
export function hasPrefillRoom(view: InstanceView, uncached_tokens: number): boolean {
  return view.prefill_tokens === 0 || view.prefill_tokens + uncached_tokens <= view.instance.prefill_tokens_max;
}
