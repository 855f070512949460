/**
 * Least predicted load. Filters say which instances have room, scorers what their load would be, and the picker takes the
 * least; ties go to the lower instance id (I9).
 *
 *  - A pair is a prefill and a decode instance of equal KV compatibility. A pair inside one node comes before any pair across
 *    nodes (NVLink first, DESIGN §9), however loaded: only when no node has room for both legs do they part.
 *  - An instance that serves whole calls competes with the pairs by load. A call that cannot be split goes only to such an
 *    instance, or, where none exists, whole to a decode instance: an engine started for decode still can prefill.
 *  - Nothing has room: wait. Nothing that exists would have room even if empty: impossible. Nothing exists: wait, for
 *    elasticity may bring something.
 */
import type { Micros } from "../../../schema/core/time.ts";
import { uncachedTokens } from "../estimate/kv-demand.ts";
import type { CacheManagement, InstanceView, Routing, RoutingDecision } from "../policies.ts";
import type { Call, Role } from "../vocabulary.ts";
import { hasPrefillRoom, hasRoom, pairs, servesUnsplit, servesWhole } from "./filters.ts";
import { waitOrImpossible } from "./possible.ts";
import { decodeLoad, prefillLoad } from "./scorers.ts";

export type LeastLoadOptions = {
  readonly cache: CacheManagement;
  /** Calls bound for one decode instance whose KV it has not pulled yet, at most (D3). */
  readonly deferred_pulls_max: number;
  /** A prefill instance that holds KV no longer than this cannot hand over safely. */
  readonly kv_lease_margin: Micros;
};

type Scored = { readonly view: InstanceView; readonly load: number };
/** The least loaded of each side. */
type Sides = { prefill: Scored | null; decode: Scored | null };
/** Instances of one KV compatibility, which can hand over to each other: in all, and node by node. */
type Fabric = { readonly across: Sides; readonly within: Map<string, Sides> };
type Pair = { readonly prefill: Scored; readonly decode: Scored; readonly load: number };
type Pick = { readonly decision: RoutingDecision; readonly load: number };

export function leastPredictedLoad(options: LeastLoadOptions): Routing {
  const { cache, deferred_pulls_max, kv_lease_margin } = options;

  function wholeLoad(view: InstanceView, call: Call): number | null {
    if (!hasRoom(view, call, "whole")) return null;
    const uncached = uncachedTokens(call, cache.expected_hit_tokens(call, view.instance.instance_id));
    if (!hasPrefillRoom(view, uncached)) return null;
    return (prefillLoad(view, call, uncached) + decodeLoad(view, call, "whole")) / 2;
  }

  function pickWhole(call: Call, instances: readonly InstanceView[], serves: (view: InstanceView) => boolean): Pick | null {
    let best: Scored | null = null;
    for (const view of instances) {
      if (!serves(view)) continue;
      const load = wholeLoad(view, call);
      if (load !== null) best = lesser(best, { view, load });
    }
    return best && { decision: { type: "one_leg", instance: best.view.instance.instance_id }, load: best.load };
  }

  function sideOf(view: InstanceView, call: Call): Scored | null {
    if (view.instance.role === "prefill") {
      if (!hasRoom(view, call, "prefill")) return null;
      const uncached = uncachedTokens(call, cache.expected_hit_tokens(call, view.instance.instance_id));
      return hasPrefillRoom(view, uncached) ? { view, load: prefillLoad(view, call, uncached) } : null;
    }
    if (view.deferred_pulls >= deferred_pulls_max || !hasRoom(view, call, "decode")) return null;
    return { view, load: decodeLoad(view, call, "decode") };
  }

  function pickPair(call: Call, instances: readonly InstanceView[]): Pick | null {
    const fabrics = new Map<string, Fabric>();
    for (const view of instances) {
      if (!pairs(view, kv_lease_margin)) continue;
      const side = sideOf(view, call);
      if (side === null) continue;
      const { kv_compat, node_id, role } = view.instance;
      let fabric = fabrics.get(kv_compat);
      if (fabric === undefined) fabrics.set(kv_compat, (fabric = { across: emptySides(), within: new Map() }));
      let node = fabric.within.get(node_id);
      if (node === undefined) fabric.within.set(node_id, (node = emptySides()));
      keepLesser(fabric.across, role, side);
      keepLesser(node, role, side);
    }
    let within: Pair | null = null;
    let across: Pair | null = null;
    for (const fabric of fabrics.values()) {
      for (const node of fabric.within.values()) within = lesserPair(within, node);
      across = lesserPair(across, fabric.across);
    }
    return pickOf(within ?? across);
  }

  return {
    route(call: Call, all: readonly InstanceView[], _now: Micros): RoutingDecision {
      const instances = all.filter((view) => view.instance.model === call.model && view.state !== "lost");
      const pick = call.splittable
        ? lesserPick(pickWhole(call, instances, servesWhole), pickPair(call, instances))
        : pickWhole(call, instances, servesUnsplit(instances));
      if (pick !== null) return pick.decision;
      return waitOrImpossible(call, instances, kv_lease_margin);
    },
  };
}

function lesser(a: Scored | null, b: Scored): Scored {
  if (a === null || b.load < a.load) return b;
  return b.load === a.load && b.view.instance.instance_id < a.view.instance.instance_id ? b : a;
}

function lesserPick(whole: Pick | null, pair: Pick | null): Pick | null {
  if (whole === null || pair === null) return whole ?? pair;
  return pair.load < whole.load ? pair : whole;
}

const emptySides = (): Sides => ({ prefill: null, decode: null });

function keepLesser(sides: Sides, role: Role, side: Scored): void {
  if (role === "prefill") sides.prefill = lesser(sides.prefill, side);
  else sides.decode = lesser(sides.decode, side);
}

/** Ties go to the lower ids of decode, then prefill. */
function lesserPair(best: Pair | null, { prefill, decode }: Sides): Pair | null {
  if (prefill === null || decode === null) return best;
  const load = (prefill.load + decode.load) / 2;
  if (best === null || load < best.load) return { prefill, decode, load };
  return load === best.load && idsBefore(decode, prefill, best.decode, best.prefill) ? { prefill, decode, load } : best;
}

function pickOf(pair: Pair | null): Pick | null {
  if (pair === null) return null;
  const { prefill, decode, load } = pair;
  return {
    decision: { type: "two_legs", prefill: prefill.view.instance.instance_id, decode: decode.view.instance.instance_id },
    load,
  };
}

function idsBefore(decode: Scored, prefill: Scored, than_decode: Scored, than_prefill: Scored): boolean {
  const a = decode.view.instance.instance_id;
  const b = than_decode.view.instance.instance_id;
  return a === b ? prefill.view.instance.instance_id < than_prefill.view.instance.instance_id : a < b;
}
