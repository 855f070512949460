/** When nothing has room now: wait, or say that nothing ever will. By what instances are, not by what they do. */
import { failure } from "../../../schema/core/errors.ts";
import type { Micros } from "../../../schema/core/time.ts";
import type { InstanceView, RoutingDecision } from "../policies.ts";
import type { Call } from "../vocabulary.ts";
import { couldServe, pairs, servesUnsplit, servesWhole } from "./filters.ts";

/** `instances`: those of the call's model that are not lost. With none of a kind to judge by, elasticity may bring one that fits. */
export function waitOrImpossible(call: Call, instances: readonly InstanceView[], kv_lease_margin: Micros): RoutingDecision {
  const possible = call.splittable
    ? splitPossible(call, instances, kv_lease_margin)
    : oneOf(instances.filter(servesUnsplit(instances)), call, "whole");
  return possible ? { type: "wait" } : { type: "impossible", failure: whyImpossible(call, instances) };
}

/** True when there is none to judge by: elasticity may bring one that fits. */
function oneOf(instances: readonly InstanceView[], call: Call, role: "prefill" | "decode" | "whole"): boolean {
  return instances.length === 0 || instances.some((view) => couldServe(view, call, role));
}

function splitPossible(call: Call, instances: readonly InstanceView[], kv_lease_margin: Micros): boolean {
  const whole = instances.filter(servesWhole);
  if (whole.length > 0 && oneOf(whole, call, "whole")) return true;
  const legged = instances.filter((view) => !servesWhole(view));
  if (legged.length === 0) return whole.length === 0;
  const paired = legged.filter((view) => pairs(view, kv_lease_margin));
  const prefills = paired.filter((view) => view.instance.role === "prefill");
  const decodes = paired.filter((view) => view.instance.role === "decode");
  if (paired.length === 0) return false;
  return oneOf(prefills, call, "prefill") && oneOf(decodes, call, "decode");
}

/** Told by what would give the answer: the decode side bears prompt and answer, prefill the prompt alone. */
function whyImpossible(call: Call, instances: readonly InstanceView[]) {
  const answering = instances.filter((view) => view.instance.role !== "prefill");
  const needed = call.prompt_tokens + call.max_tokens;
  const context = Math.max(0, ...answering.map((view) => view.instance.context_tokens));
  if (answering.length > 0 && needed > context)
    return failure("context_too_long", `prompt and answer need ${needed} tokens; the context is ${context}`);
  const kv = Math.max(0, ...answering.map((view) => view.instance.kv_tokens));
  if (answering.length > 0 && needed > kv)
    return failure("context_too_long", `prompt and answer need ${needed} tokens of KV; the largest instance holds ${kv}`);
  return failure("no_capacity", "no instance of this model can serve a call like this");
}
