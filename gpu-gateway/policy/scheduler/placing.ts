/**
 * Asks routing for the head of a queue, and holds its answer against the books: no policy can start a leg on an instance that
 * is not ready, exceed its slots, or exceed the deferred pulls of a decode instance (D3). Such an answer counts as `wait`.
 *
 * A retried call is first offered without the instances that failed it. They are used again only when one of them is ready and
 * no other of its role is: waiting for a good one beats failing again on a bad one.
 */
import type { Failure } from "../../../schema/core/errors.ts";
import type { Micros } from "../../../schema/core/time.ts";
import type { Routing, RoutingDecision } from "../policies.ts";
import type { PrefixFetch } from "../vocabulary.ts";
import type { CallRecord } from "./call-record.ts";
import type { InstanceBook, InstanceEntry } from "./instance-book.ts";
import type { SchedulerLimits } from "./limits.ts";

export type Placement =
  | { readonly type: "whole"; readonly entry: InstanceEntry; readonly fetched: PrefixFetch | null }
  | PairPlacement
  | { readonly type: "wait" }
  | { readonly type: "impossible"; readonly failure: Failure };

export type PairPlacement = {
  readonly type: "two";
  readonly prefill: InstanceEntry;
  readonly decode: InstanceEntry;
  readonly fetched: PrefixFetch | null;
};

const WAIT: Placement = { type: "wait" };

export function place(record: CallRecord, book: InstanceBook, routing: Routing, limits: SchedulerLimits, now: Micros): Placement {
  const decision = decide(record, book, routing, now);
  if (decision.type === "wait" || decision.type === "impossible") return decision;
  const fetched = decision.fetch_prefix ?? null;
  if (decision.type === "one_leg") {
    const entry = book.get(decision.instance);
    return entry !== undefined && canStart(entry) ? { type: "whole", entry, fetched } : WAIT;
  }
  const prefill = book.get(decision.prefill);
  const decode = book.get(decision.decode);
  if (prefill === undefined || decode === undefined || prefill === decode) return WAIT;
  if (!canStart(prefill) || !canStart(decode) || decode.deferred_pulls >= limits.deferred_pulls_max) return WAIT;
  return { type: "two", prefill, decode, fetched };
}

function decide({ call, avoid }: CallRecord, book: InstanceBook, routing: Routing, now: Micros): RoutingDecision {
  const all = book.ofModel(call.model);
  if (avoid.length === 0) return routing.route(call, all, now);
  const good = all.filter((entry) => !avoid.includes(entry.instance.instance_id));
  const first = routing.route(call, good, now);
  if (first.type === "one_leg" || first.type === "two_legs") return first;
  const worth_waiting = all.every((entry) => good.includes(entry) || !entry.ready || replaceable(entry, good));
  return first.type === "wait" && worth_waiting ? first : routing.route(call, all, now);
}

/** Another instance of the same model and role is ready. */
export function replaceable(entry: InstanceEntry, among: readonly InstanceEntry[]): boolean {
  return among.some((other) => other !== entry && other.ready && other.instance.role === entry.instance.role);
}

const canStart = (entry: InstanceEntry): boolean => entry.ready && entry.legs + entry.reserved < entry.instance.slots;
