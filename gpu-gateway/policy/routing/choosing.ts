/**
 * What routings that choose one instance for the prompt and then one for the answer have in common: who may be chosen. A chooser
 * gets only instances that can take the call, in the order of their ids, and says which.
 *
 * With `at_once` an instance can take a call while it has a slot: the call then waits in the engine's own queue, as in papers whose
 * engines queue. Without, it also needs room for the call's KV and prompt, and the call waits here, where it can still be ordered,
 * cancelled and placed elsewhere (D3). Slots and deferred pulls are the scheduler's limits and hold either way.
 */
import type { Micros } from "../../../schema/core/time.ts";
import { uncachedTokens } from "../estimate/kv-demand.ts";
import type { CacheManagement, InstanceView, Routing, RoutingDecision } from "../policies.ts";
import type { Call, LegRole, PrefixFetch } from "../vocabulary.ts";
import { hasPrefillRoom, hasRoom, hasSlot, pairs, servesUnsplit, servesWhole } from "./filters.ts";
import { waitOrImpossible } from "./possible.ts";

export type ChoosingOptions = {
  readonly cache: CacheManagement;
  readonly at_once: boolean;
  /** Calls bound for one decode instance whose KV it has not pulled yet, at most (D3). */
  readonly deferred_pulls_max: number;
  /** A prefill instance that holds KV no longer than this cannot hand over safely. */
  readonly kv_lease_margin: Micros;
};

export type FirstChoice = { readonly view: InstanceView; readonly fetched: PrefixFetch | null };

export interface Chooser {
  /** Which of these computes the prompt? `all` are the model's instances, with room or without. Never asked with none. */
  first(call: Call, among: readonly InstanceView[], all: readonly InstanceView[], now: Micros): FirstChoice;
  /** Which of these then gives the answer? Never asked with none. */
  decode(call: Call, among: readonly InstanceView[], prefill: InstanceView): InstanceView;
}

export function choosing(options: ChoosingOptions, chooser: Chooser): Routing {
  const { cache, at_once, deferred_pulls_max, kv_lease_margin } = options;

  function takes(view: InstanceView, call: Call, role: LegRole): boolean {
    if (role === "decode" && view.deferred_pulls >= deferred_pulls_max) return false;
    if (at_once) return hasSlot(view, call, role);
    if (!hasRoom(view, call, role)) return false;
    return role === "decode" || hasPrefillRoom(view, uncachedTokens(call, cache.expected_hit_tokens(call, view.instance.instance_id)));
  }

  return {
    route(call, views, now): RoutingDecision {
      const all = views.filter((view) => view.instance.model === call.model && view.state !== "lost").sort(byId);
      const serves = call.splittable ? servesWhole : servesUnsplit(all);
      const paired = call.splittable ? all.filter((view) => pairs(view, kv_lease_margin)) : [];
      const decodes = paired.filter((view) => view.instance.role === "decode" && takes(view, call, "decode"));
      const firsts = all.filter((view) => {
        if (serves(view)) return takes(view, call, "whole");
        return view.instance.role === "prefill" && paired.includes(view) && decodes.some(like(view)) && takes(view, call, "prefill");
      });
      if (firsts.length === 0) return waitOrImpossible(call, all, kv_lease_margin);
      const { view, fetched } = chooser.first(call, firsts, all, now);
      const fetch_prefix = fetched === null ? {} : { fetch_prefix: fetched };
      const chosen = view.instance.instance_id;
      if (serves(view)) return { type: "one_leg", instance: chosen, ...fetch_prefix };
      const decode = chooser.decode(call, decodes.filter(like(view)), view);
      return { type: "two_legs", prefill: chosen, decode: decode.instance.instance_id, ...fetch_prefix };
    },
  };
}

/** Of equal KV compatibility: one can read what the other computed. */
export const like =
  ({ instance }: InstanceView) =>
  (other: InstanceView): boolean =>
    other.instance.kv_compat === instance.kv_compat;

const byId = (a: InstanceView, b: InstanceView): number => (a.instance.instance_id < b.instance.instance_id ? -1 : 1);

/** The one for which `cost` is least; the first of equals, which in the order of ids is the lower id (I9). */
export function least(among: readonly InstanceView[], cost: (view: InstanceView) => number): InstanceView {
  let [best] = among;
  if (best === undefined) throw new RangeError("nothing to choose from");
  let best_cost = cost(best);
  for (const view of among) {
    const its_cost = cost(view);
    if (its_cost < best_cost) {
      best = view;
      best_cost = its_cost;
    }
  }
  return best;
}
