/**
 * Mooncake's conductor (Qin et al., "Mooncake: Trading More Storage for Less Computation", FAST 2025): the prompt goes
 * where its first token is expected soonest. For each instance p that can take it, with `prefix` tokens of it cached at p and `best`
 * the most that any instance has,
 *
 *    T(p) = queue(p) + prefill(length, prefix)                                   while best ÷ prefix <= threshold,
 *    T(p) = transfer(best − prefix) + queue(p) + prefill(length, best)           beyond it: p fetches what it lacks.
 *
 * The least T wins, and the answer goes where a token takes least. Without `fetch_threshold` nothing is fetched, which is the paper's
 * `local-aware` baseline. Its early rejection is admission's to say (admission/early-rejection.ts), by the same prediction.
 *
 * Where instances serve whole calls they compete by T like the others. Equal times of decode go to the node of the prefill, then to
 * the lower id. What T leaves out: handing the KV over to decode, which the paper overlaps with prefill.
 */
import type { Micros } from "../../../schema/core/time.ts";
import { uncachedTokens } from "../estimate/kv-demand.ts";
import type { InstanceView, Routing, TimeEstimates } from "../policies.ts";
import type { Call, PrefixFetch } from "../vocabulary.ts";
import { choosing, type ChoosingOptions, least, like } from "./choosing.ts";
import { couldServe, pairs, servesUnsplit, servesWhole } from "./filters.ts";

export type ConductorOptions = ChoosingOptions & {
  readonly estimates: TimeEstimates;
  /**
   * A prefix is fetched when another instance holds more than this many times as much of it. Null: never, as is right for engines
   * that cannot fetch KV from their peers: none that runs live here can.
   */
  readonly fetch_threshold: number | null;
};

/** What a call may expect: its first token, and the time between two. */
export type Expectation = { readonly ttft: Micros; readonly tbt: Micros };

export interface Conductor extends Routing {
  /** If it were placed now, room or no room. Null: no instance is ready that could serve it. */
  expect(call: Call, instances: readonly InstanceView[], now: Micros): Expectation | null;
}

export function conductor(options: ConductorOptions): Conductor {
  const { estimates, kv_lease_margin } = options;

  const decodeTime = (call: Call) => (view: InstanceView) => estimates.decode_step_time(view, call);

  const routing = choosing(options, {
    first(call, among, all, now) {
      const holders = holdersOf(call, all, options);
      const plans = new Map(among.map((view) => [view, planOf(view, call, holders, options, now)]));
      const view = least(among, (one) => plans.get(one)?.time ?? Number.POSITIVE_INFINITY);
      return { view, fetched: plans.get(view)?.fetched ?? null };
    },
    decode(call, among, { instance: { node_id } }) {
      const quickest = decodeTime(call)(least(among, decodeTime(call)));
      const equals = among.filter((view) => decodeTime(call)(view) === quickest);
      return equals.find((view) => view.instance.node_id === node_id) ?? least(equals, () => 0);
    },
  });

  return {
    route: (call, instances, now) => routing.route(call, instances, now),
    expect(call, instances, now) {
      const ready = instances.filter((view) => view.instance.model === call.model && view.state === "ready" && view.unreachable !== true);
      const serves = call.splittable ? servesWhole : servesUnsplit(ready);
      const holders = holdersOf(call, ready, options);
      let soonest: Expectation | null = null;
      for (const view of ready) {
        const { role } = view.instance;
        const whole = serves(view) && couldServe(view, call, "whole");
        const prefill = call.splittable && role === "prefill" && pairs(view, kv_lease_margin) && couldServe(view, call, "prefill");
        if (!whole && !prefill) continue;
        const answering = whole ? [view] : ready.filter((other) => decodesFor(other, view, call, kv_lease_margin));
        if (answering.length === 0) continue;
        const ttft = planOf(view, call, holders, options, now).time as Micros;
        const tbt = decodeTime(call)(least(answering, decodeTime(call)));
        if (soonest === null || ttft < soonest.ttft || (ttft === soonest.ttft && tbt < soonest.tbt)) soonest = { ttft, tbt };
      }
      return soonest;
    },
  };

  function decodesFor(view: InstanceView, prefill: InstanceView, call: Call, margin: Micros): boolean {
    return view.instance.role === "decode" && pairs(view, margin) && like(prefill)(view) && couldServe(view, call, "decode");
  }
}

type Holder = { readonly view: InstanceView; readonly tokens: number };
type Plan = { readonly time: number; readonly fetched: PrefixFetch | null };

/** By KV compatibility: who holds most of this prompt; the lower id of equals. */
function holdersOf(call: Call, all: readonly InstanceView[], { cache, fetch_threshold }: ConductorOptions): ReadonlyMap<string, Holder> {
  const holders = new Map<string, Holder>();
  if (fetch_threshold === null) return holders;
  for (const view of all) {
    const { instance_id, kv_compat, role } = view.instance;
    if (role === "decode" || view.state !== "ready" || view.unreachable === true) continue;
    const tokens = cache.expected_hit_tokens(call, instance_id);
    const best = holders.get(kv_compat);
    const better = best === undefined || tokens > best.tokens;
    if (better || (tokens === best.tokens && instance_id < best.view.instance.instance_id)) holders.set(kv_compat, { view, tokens });
  }
  return holders;
}

function planOf(
  view: InstanceView,
  call: Call,
  holders: ReadonlyMap<string, Holder>,
  { cache, estimates, fetch_threshold }: ConductorOptions,
  now: Micros,
): Plan {
  const { instance } = view;
  const queue = Math.max(0, view.prefill_due - now);
  const prefix = cache.expected_hit_tokens(call, instance.instance_id);
  const holder = holders.get(instance.kv_compat);
  if (fetch_threshold === null || holder === undefined || holder.tokens <= threshold(prefix, fetch_threshold))
    return { time: queue + estimates.prefill_time(instance, uncachedTokens(call, prefix), prefix), fetched: null };
  const best = holder.tokens;
  return {
    time: estimates.transfer_time(best - prefix) + queue + estimates.prefill_time(instance, uncachedTokens(call, best), best),
    fetched: { instance_id: holder.view.instance.instance_id, tokens: best },
  };
}

/** Nothing cached: whatever another holds is beyond any ratio. A ratio below 1 would fetch from oneself. */
const threshold = (prefix: number, ratio: number): number => prefix * Math.max(1, ratio);
