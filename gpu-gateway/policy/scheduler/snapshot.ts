/** What the scheduler looks like from outside, for metrics and the admin page. Plain data, in the order of ids. */
import type { GroupId, InstanceId, NodeId } from "../../../schema/core/ids.ts";
import type { Micros } from "../../../schema/core/time.ts";
import type { GroupView } from "../policies.ts";
import type { InstanceState, Role } from "../vocabulary.ts";
import type { EngineSample, InstanceEntry } from "./instance-book.ts";

export type SchedulerSnapshot = {
  /** Accepted and not ended. */
  readonly calls: number;
  readonly queues: readonly { readonly model: string; readonly queued: number }[];
  readonly legs: number;
  /** Prefill legs that only hold KV. */
  readonly holding: number;
  /** Decode slots kept, with or without a leg yet. */
  readonly reservations: number;
  readonly pools: readonly PoolSnapshot[];
  readonly instances: readonly InstanceSnapshot[];
  readonly groups: readonly GroupView[];
  readonly wake_at: Micros | null;
};

export type PoolSnapshot = {
  readonly model: string;
  readonly role: Role;
  readonly kv_compat: string;
  readonly states: Readonly<Record<InstanceState, number>>;
  readonly slots: number;
  readonly legs: number;
  readonly reserved: number;
  readonly kv_tokens: number;
  readonly kv_tokens_max: number;
};

export type InstanceSnapshot = {
  readonly instance_id: InstanceId;
  readonly group_id: GroupId;
  readonly node_id: NodeId;
  readonly model: string;
  readonly role: Role;
  readonly state: InstanceState;
  readonly slots: number;
  readonly legs: number;
  readonly reserved: number;
  readonly deferred_pulls: number;
  readonly prefill_tokens: number;
  readonly prefill_tokens_max: number;
  readonly kv_tokens: number;
  readonly kv_tokens_max: number;
  /** The engine's own figures, as last sampled. */
  readonly sample: EngineSample | null;
};

export function instanceSnapshot({ instance, ...entry }: InstanceEntry): InstanceSnapshot {
  return {
    instance_id: instance.instance_id,
    group_id: instance.group_id,
    node_id: instance.node_id,
    model: instance.model,
    role: instance.role,
    state: entry.state,
    slots: instance.slots,
    legs: entry.legs,
    reserved: entry.reserved,
    deferred_pulls: entry.deferred_pulls,
    prefill_tokens: entry.prefill_tokens,
    prefill_tokens_max: instance.prefill_tokens_max,
    kv_tokens: entry.kv_tokens,
    kv_tokens_max: instance.kv_tokens,
    sample: entry.sample,
  };
}

/** A pool: the instances of one model, role and KV compatibility. */
export function poolSnapshots(entries: readonly InstanceEntry[]): readonly PoolSnapshot[] {
  const pools = new Map<string, PoolSnapshot & { states: Record<InstanceState, number> }>();
  for (const entry of entries) {
    const { model, role, kv_compat, slots, kv_tokens } = entry.instance;
    const key = `${model} ${role} ${kv_compat}`;
    const before = pools.get(key);
    const states = { ...(before?.states ?? NO_STATES) };
    states[entry.state] += 1;
    pools.set(key, {
      model,
      role,
      kv_compat,
      states,
      slots: (before?.slots ?? 0) + slots,
      legs: (before?.legs ?? 0) + entry.legs,
      reserved: (before?.reserved ?? 0) + entry.reserved,
      kv_tokens: (before?.kv_tokens ?? 0) + entry.kv_tokens,
      kv_tokens_max: (before?.kv_tokens_max ?? 0) + kv_tokens,
    });
  }
  return [...pools].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, pool]) => pool);
}

const NO_STATES: Readonly<Record<InstanceState, number>> = { loading: 0, ready: 0, sleeping: 0, waking: 0, draining: 0, lost: 0 };
