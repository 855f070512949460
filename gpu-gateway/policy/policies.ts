/**
 * The six questions, each an interface of one or two methods, each answered by an implementation chosen by
 * configuration, so that baselines run in the same harness. All are pure: state comes in, a decision goes out. Ties break by id.
 */
import type { Failure } from "../../schema/core/errors.ts";
import type { GroupId, InstanceId, LegId } from "../../schema/core/ids.ts";
import type { Micros } from "../../schema/core/time.ts";
import type { Call, Instance, InstanceState, LegRole, Role } from "./vocabulary.ts";

/** What the scheduler knows of an instance, by its own books (not by polling). */
export type InstanceView = {
  readonly instance: Instance;
  readonly state: InstanceState;
  /** Could not be reached just now: it gets no leg for a while, whatever its state. */
  readonly unreachable?: boolean;
  /** Legs in flight, and decode reservations that have no leg yet. */
  readonly legs: number;
  readonly reserved: number;
  /** Prompt tokens of prefills in flight, without those expected to hit the prefix cache. */
  readonly prefill_tokens: number;
  /** Two-leg calls bound for this decode instance whose KV it has not pulled yet: in prefill, held, or being pulled (D3). */
  readonly deferred_pulls: number;
  /** Predicted peak KV of everything in flight, reserved or held. */
  readonly kv_tokens: number;
};

export type QueueView = { readonly model: string; readonly queued: number; readonly now: Micros };

/** Take, queue or refuse? Asked once, when a call arrives. */
export interface Admission {
  admit(call: Call, queue: QueueView, instances: readonly InstanceView[]): AdmissionDecision;
}
export type AdmissionDecision =
  | { readonly type: "queue" }
  | { readonly type: "reject"; readonly failure: Failure; readonly retry_after_ms: number };

/** Which queued call next? */
export interface Ordering {
  /** < 0: `a` goes before `b`. A total order: ties are broken by call id. */
  compare(a: Call, b: Call): number;
  /** A call has ended after this much model time. */
  finished(call: Call, model_time: Micros): void;
}

/** One leg or two, on which instances? `wait` leaves the call queued. */
export interface Routing {
  route(call: Call, instances: readonly InstanceView[], now: Micros): RoutingDecision;
}
export type RoutingDecision =
  | { readonly type: "one_leg"; readonly instance: InstanceId }
  | { readonly type: "two_legs"; readonly prefill: InstanceId; readonly decode: InstanceId }
  | { readonly type: "wait" }
  /** No instance, in any state, could ever serve it. */
  | { readonly type: "impossible"; readonly failure: Failure };

/** What stays cached, what is fetched ahead, what goes? The baseline keeps what fits: engines evict by LRU. */
export interface CacheManagement {
  /** Prompt tokens of this call expected to hit the prefix cache of this instance. */
  expected_hit_tokens(call: Call, instance: InstanceId): number;
  placed(call: Call, instance: InstanceId): void;
  lost(instance: InstanceId): void;
}

/** How many groups of each role? Asked on a timer and when groups or queues change. */
export interface Elasticity {
  plan(groups: readonly GroupView[], queues: readonly QueueView[], now: Micros): readonly ElasticityDecision[];
}
export type GroupView = {
  readonly group_id: GroupId;
  readonly model: string;
  readonly role: Role;
  readonly state: "launching" | "up" | "stopping";
};
export type ElasticityDecision =
  | { readonly type: "launch"; readonly model: string; readonly role: Role }
  | { readonly type: "stop"; readonly group_id: GroupId; readonly drain: boolean };

/** Who pays for this interval? Gives the weights; metering/split.ts divides integer nanoseconds by them. */
export interface CostAllocation {
  /** A positive integer: this leg's share while it is active in this state. */
  weight(leg: {
    readonly leg_id: LegId;
    readonly role: LegRole;
    readonly holding: boolean;
    readonly prompt_tokens: number;
    readonly hit_tokens: number;
    readonly kv_tokens: number;
  }): number;
}
