/** The things policy reasons about: calls, legs, instances, groups. Plain data, no behaviour. */
import type { Failure } from "../../schema/core/errors.ts";
import type { CallId, GroupId, InstanceId, LegId, NodeId, ProgramId, TenantId } from "../../schema/core/ids.ts";
import type { Micros } from "../../schema/core/time.ts";

export type Role = "prefill" | "decode" | "both";
/** The part of a call that one instance serves. */
export type LegRole = "prefill" | "decode" | "whole";

/**
 * What a prompt begins with, as far as it is known: a hash for each of its consecutive blocks, each naming everything before it,
 * starting from the tenant's cache salt, so that equal hashes are equal prefixes of one tenant (I3). Integers, exact in a number.
 */
export type Prefix = { readonly block_tokens: number; readonly blocks: readonly number[] };

/** What is known of a call when it arrives. */
export type Call = {
  readonly call_id: CallId;
  readonly tenant: TenantId;
  readonly program: ProgramId;
  readonly agent: string | null;
  readonly model: string;
  readonly arrived: Micros;
  readonly deadline: Micros;
  /** Counted or estimated before dispatch. */
  readonly prompt_tokens: number;
  /** The most the client allows. */
  readonly max_tokens: number;
  /** Absent: nothing is known of it. A call that nothing was known of hits no cache in a policy's books. */
  readonly prefix?: Prefix;
  /** False when it cannot be split over two instances (n > 1, an engine that says so): then one leg (D3). */
  readonly splittable: boolean;
};

/** What an engine version can do, as a probe found it (D10). */
export type Capabilities = {
  readonly legs: "none" | "prefill_first" | "concurrent";
  readonly sleep: boolean;
  readonly sleep_while_paired: boolean;
  readonly priority: boolean;
  readonly kv_events: boolean;
  readonly cancel: boolean;
};

export type InstanceState = "loading" | "ready" | "sleeping" | "waking" | "draining" | "lost";

export type Instance = {
  readonly instance_id: InstanceId;
  readonly group_id: GroupId;
  readonly node_id: NodeId;
  readonly model: string;
  readonly role: Role;
  /** Prefill hands KV to decode only inside one compatibility: engine version, attention backend, KV dtype. */
  readonly kv_compat: string;
  readonly gpus: number;
  readonly capabilities: Capabilities;
  /** How many legs it runs at once at most (decode slots, prefills in flight). */
  readonly slots: number;
  /** Tokens of KV that it can hold. */
  readonly kv_tokens: number;
  /** Prefill tokens in flight at most; keeps the engine full but never deep. */
  readonly prefill_tokens_max: number;
  readonly context_tokens: number;
  /** How long prefilled KV is held for a decode instance that has not accepted it; 0 without two legs. */
  readonly kv_lease: Micros;
};

/** Why a leg ended badly. `cause` decides retry: only policy retries (D4). */
export type LegFailure = {
  readonly cause: "connect" | "status" | "stream_cut" | "protocol" | "timeout" | "kv_lost" | "rejected" | "instance_lost";
  readonly failure: Failure;
};

export type LegUsage = {
  readonly prompt_tokens: number;
  readonly cached_tokens: number;
  readonly completion_tokens: number;
};

/** How a call ended: exactly one of these for each accepted call (I2). */
export type CallOutcome =
  | { readonly type: "done"; readonly finish_reason: string; readonly usage: LegUsage }
  | { readonly type: "cancelled"; readonly reason: string; readonly emitted: number }
  | { readonly type: "shed"; readonly failure: Failure }
  | { readonly type: "failed"; readonly failure: Failure; readonly emitted: number };

export type LegRef = { readonly leg_id: LegId; readonly instance_id: InstanceId };

/** The first `tokens` of the prompt lie in that instance's prefix cache, to be fetched from there before the rest is computed. */
export type PrefixFetch = { readonly instance_id: InstanceId; readonly tokens: number };
