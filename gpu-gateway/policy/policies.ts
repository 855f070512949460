/**
 * The six questions, each an interface of one or two methods, each answered by an implementation chosen by
 * configuration, so that baselines run in the same harness. All are pure: state comes in, a decision goes out. Ties break by id.
 */
import type { Failure } from "../../schema/core/errors.ts";
import type { GroupId, InstanceId, LegId } from "../../schema/core/ids.ts";
import type { Micros } from "../../schema/core/time.ts";
import type { Call, Instance, InstanceState, LegRole, LegUsage, PrefixFetch, Role } from "./vocabulary.ts";

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
  /** When those prefills are expected to be computed, by TimeEstimates. Not after now: none is in flight, or nothing is estimated. */
  readonly prefill_due: Micros;
  /** Two-leg calls bound for this decode instance whose KV it has not pulled yet: in prefill, held, or being pulled (D3). */
  readonly deferred_pulls: number;
  /** Predicted peak KV of everything in flight, reserved or held. */
  readonly kv_tokens: number;
};

/** `queued`: for admission, with those that rest before their next attempt. */
export type QueueView = { readonly model: string; readonly queued: number; readonly now: Micros };

/** Take, queue or refuse? Asked once, when a call arrives. */
export interface Admission {
  admit(call: Call, queue: QueueView, instances: readonly InstanceView[]): AdmissionDecision;
}
export type AdmissionDecision =
  | { readonly type: "queue" }
  | { readonly type: "reject"; readonly failure: Failure; readonly retry_after_ms: number };

/**
 * Which queued call next? A queue discipline for each model, which is told what its calls are given, so that an order may move
 * while calls wait. Each call is told of once as `placed`, with output that only grows, until it is `returned` or has finished.
 */
export interface Ordering {
  /** A new, empty queue. Asked for when the first call of the model waits; dropped when the last has left. */
  queue<Q extends Queued>(model: string): CallQueue<Q>;
  served(call: Call, service: Service): void;
  /** The call has ended, whether or not it was ever placed. */
  finished(call: Call, end: ServiceEnd): void;
}
export type Queued = { readonly call: Call };
export interface CallQueue<Q extends Queued> {
  readonly size: number;
  add(item: Q): void;
  /** False if it is not there. */
  remove(item: Q): boolean;
  first(): Q | undefined;
  /** How many are expected to go before it, and itself. */
  placeOf(item: Q): number;
  /** Visits a bounded number of those whose place may have changed: at places 1, 4, 16, … of the queue, or of a part of it. */
  visitMilestones(visit: (item: Q, place: number) => void): void;
}
export type Service =
  /** It has left the queue to run; so much of its prompt is expected to be cached. */
  | { readonly type: "placed"; readonly hit_tokens: number }
  /** Tokens of its answer so far, in all. */
  | { readonly type: "output"; readonly tokens: number }
  /** The attempt came to nothing and no token was sent: it will be queued again. */
  | { readonly type: "returned" };
export type ServiceEnd = {
  /** What the engines reported; null when the call did not come to its end there. */
  readonly usage: LegUsage | null;
  readonly model_time: Micros;
};

/** One leg or two, on which instances? `wait` leaves the call queued. */
export interface Routing {
  route(call: Call, instances: readonly InstanceView[], now: Micros): RoutingDecision;
}
export type RoutingDecision =
  | { readonly type: "one_leg"; readonly instance: InstanceId; readonly fetch_prefix?: PrefixFetch }
  | { readonly type: "two_legs"; readonly prefill: InstanceId; readonly decode: InstanceId; readonly fetch_prefix?: PrefixFetch }
  | { readonly type: "wait" }
  /** No instance, in any state, could ever serve it. */
  | { readonly type: "impossible"; readonly failure: Failure };

/** What stays cached, what is fetched ahead, what goes? The baseline keeps what fits: engines evict by LRU. */
export interface CacheManagement {
  /** Prompt tokens of this call expected to hit the prefix cache of this instance. */
  expected_hit_tokens(call: Call, instance: InstanceId): number;
  placed(call: Call, instance: Instance): void;
  lost(instance: InstanceId): void;
}

/**
 * How long will it take? Not one of the six questions: what their answers are built on. In virtual time it is the engine model;
 * live it is learned from the durations that the scheduler sees (estimate/learned-times.ts).
 */
export interface TimeEstimates {
  /** Computing a prompt of which so much is cached, alone on that instance. */
  prefill_time(instance: Instance, uncached_tokens: number, cached_tokens: number): Micros;
  /** One token of this call there, beside what runs there already. */
  decode_step_time(view: InstanceView, call: Call): Micros;
  /** KV of so many tokens from one instance to another. */
  transfer_time(tokens: number): Micros;
  prefilled?(instance: Instance, uncached_tokens: number, cached_tokens: number, took: Micros): void;
  /** So many tokens of an answer after its first took so long, beside what runs there now. */
  decoded?(view: InstanceView, tokens: number, took: Micros): void;
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
