/** What the fold gives: rows for the ledger, the instant up to which they are complete, and what was wrong with the input. */
import type { UsageEvent } from "../../../schema/core/wire/usage.ts";
import type { CallId, NodeId } from "../../../schema/core/ids.ts";
import type { Nanos } from "../../../schema/core/time.ts";

/** A call that ended; the shape of the ledger port's `CallRow` (policy may not import ports). */
export type EndedCall = {
  readonly call_id: CallId;
  readonly tenant: string;
  readonly accepted_at: Nanos;
  readonly ended_at: Nanos;
  readonly outcome: "done" | "cancelled" | "shed" | "failed";
  readonly code: string | null;
  readonly tags: Readonly<Record<string, string | null>>;
  readonly tokens: { readonly prompt: number; readonly cached: number; readonly completion: number };
};

/** The node agent's own statement, passed through as it is: what the rows are reconciled against. Never computed. */
export type StatedProvision = {
  readonly provision_id: string;
  readonly node_id: NodeId;
  readonly gpus: number;
  readonly provisioned_at: Nanos;
  readonly released_at: Nanos | null;
  readonly reported_by: string;
};

/** GPU time of a call so far. A whole leg counts as decode, holding as prefill. */
export type CallGpuTime = { readonly prefill_gpu_ns: bigint; readonly decode_gpu_ns: bigint };

export type FoldOutput =
  | { readonly type: "usage"; readonly event: UsageEvent }
  | { readonly type: "call"; readonly row: EndedCall; readonly gpu_time: CallGpuTime }
  | { readonly type: "provision"; readonly provision: StatedProvision }
  /** Every row of time before `t` has been given. */
  | { readonly type: "watermark"; readonly t: Nanos }
  /** A record that contradicts the state, or a broken conservation. Reported, never thrown. */
  | { readonly type: "anomaly"; readonly t: Nanos; readonly detail: string };
