/**
 * The meter: what the gateway's runtime tells about GPUs and calls, and what it may ask. It stamps each record with the cell's
 * own line of time, journals it, folds it live, cuts, and has the shipper bring the rows to the ledger.
 *
 * How the runtime uses it:
 *  1. `createMeter` (journals `boot`; after a crash the gap goes to `lost`, and every GPU stays on `lost` until its node or a
 *     group on it is announced again: send `node_provisioned`, `group_started` and `instance_state` for all that was adopted).
 *  2. End each of `open_calls`: an earlier boot accepted them and did not live to answer.
 *  3. `record(…)` for each thing that happens. "Accepted means journalled" (D4): `record({type: "call_accepted"…})`, then
 *     `await durable()` before the client is told.
 *  4. Cuts come by themselves (each UTC minute, and every `usage_cut_ms` when calls ended); `settle()` cuts now and ships.
 */
import type { CallId, CellId, NodeId } from "../../schema/core/ids.ts";
import type { Nanos } from "../../schema/core/time.ts";
import type { MeteringRecord } from "../policy/metering/records.ts";
import type { Ledger } from "../ports/ledger.ts";

type WithoutT<R> = R extends unknown ? Omit<R, "t"> : never;
/** What the runtime records. The meter adds `t`, and writes `boot`, `alive` and `cut` itself. */
export type MeterInput = WithoutT<Exclude<MeteringRecord, { readonly type: "boot" | "alive" | "cut" }>>;

export type MeterClock = {
  /** UTC nanoseconds; may step. Read once, at the start. */
  wall_now_ns(): bigint;
  /** Monotonic nanoseconds from any origin. */
  hrtime_ns(): bigint;
};

export type MeterOptions = {
  readonly journal_dir: string;
  readonly cell: CellId;
  readonly epoch: number;
  readonly boot_id: string;
  readonly ledger: Ledger;
  /**
   * Renews the nodes' leases and says until when each node confirms that it was ours. Called after each cut and before the cut's
   * rows are released, so that a node released before the cut is known by then: record its `node_released` before resolving.
   */
  readonly renew: () => Promise<ReadonlyMap<NodeId, Nanos>>;
  /** The journal can no longer be written (disk full, I/O error): stop taking calls. Called once. */
  readonly on_failure: (reason: string) => void;
  /** A record that contradicts the state, a broken conservation, a torn tail, a conflict in the ledger: for the log and a counter. */
  readonly on_anomaly?: (detail: string) => void;
  readonly clock?: MeterClock;
  readonly usage_cut_ms?: number;
  readonly group_commit_ms?: number;
};

export type CallMeter = { readonly prefill_gpu_ns: bigint; readonly decode_gpu_ns: bigint };

export type SettleOutcome =
  /** The ledger holds everything of this cell before `watermark`. */
  | { readonly type: "settled"; readonly watermark: Nanos }
  /** It does not: `watermark` is where the ledger stands (null: nothing was ever shipped). Shipping goes on by itself. */
  | { readonly type: "behind"; readonly watermark: Nanos | null; readonly reason: string };

export interface Meter {
  /** Calls that an earlier boot accepted and never ended. */
  readonly open_calls: readonly CallId[];
  /** The cell's line of time: UTC nanoseconds, never back. */
  now(): Nanos;
  /** Stamps, journals, folds: microseconds, no I/O. After a failure of the journal it is dropped. */
  record(input: MeterInput): Nanos;
  /** Resolves when everything recorded so far is on disk; rejects when the journal has failed. */
  durable(): Promise<void>;
  state(): "open" | "failed" | "closed";
  /** Closes every interval now, renews, and releases the rows to the shipper. Resolves with the cut's instant once it is durable. */
  cut(): Promise<Nanos>;
  /** `cut`, then ships all that there is. */
  settle(): Promise<SettleOutcome>;
  /** What a call used so far, or in all if it ended a short while ago. A whole leg counts as decode, holding as prefill. */
  call_meter(call: CallId): CallMeter | undefined;
  /** A last cut, a last attempt to ship, then the journal is closed. */
  close(): Promise<void>;
}

export type CreateMeter = (options: MeterOptions) => Promise<Meter>;
