/**
 * The journal's vocabulary: the inputs of metering, and nothing derived (D5). Allocation is a pure fold over these
 * (fold.ts), so that anyone can recompute it from the file.
 *
 * `t` is UTC nanoseconds on the cell's own line of time: the boot record's anchor plus monotonic time since. It never
 * goes back within a journal: a boot whose wall clock is behind the last record begins at that record. A node's own instants
 * (`at`) are from the node agent's record and are used as they are for the edges of provisioned time.
 *
 * Rules of the fold, each tested:
 *  - A GPU is provisioned from `node_provisioned.at` to `node_released.at`. GPUs in no group go to `unassigned`.
 *  - A group's GPUs go to `loading` from `group_started` until each instance's first `instance_state: ready`.
 *  - A ready instance with no active leg is `idle`; with active legs its time × GPUs is split by weight, largest remainder
 *    first, ties by leg id. `waking`, `draining` (with no leg), `sleeping` (→ idle) as named. Draining with legs: the legs pay.
 *  - A prefill leg that finished with KV to hand over stays active in state `holding` until `leg_left`.
 *  - `boot` after other records: everything from the last record's `t` to the boot's goes to `lost`, active legs are ended.
 *  - `cut` closes every open interval at `t` and releases rows: the watermark. No row crosses a UTC minute or a cut.
 *  - A `node_released.at` before time already metered gives a negative correction row on `lost`'s neighbour, marked so.
 */
import type { CallId, CellId, GroupId, InstanceId, LegId, NodeId } from "../../../schema/core/ids.ts";
import type { Nanos } from "../../../schema/core/time.ts";
import type { InstanceState, LegRole } from "../vocabulary.ts";

/** Who a call is for, as the credential and the edge said. Copied on every usage row of its legs. */
export type CallTags = {
  readonly tenant: string;
  readonly project: string;
  readonly function: string | null;
  readonly version: string | null;
  readonly run: string | null;
  readonly session: string | null;
  readonly program: string;
  readonly agent: string | null;
  readonly model: string;
  /** Which key or token asked. */
  readonly key: string;
};

export type MeteringRecord =
  | { readonly type: "boot"; readonly t: Nanos; readonly cell: CellId; readonly epoch: number; readonly boot_id: string }
  | {
      readonly type: "node_provisioned";
      readonly t: Nanos;
      readonly node: NodeId;
      readonly gpus: number;
      readonly at: Nanos;
      readonly provision_id: string;
    }
  | { readonly type: "node_released"; readonly t: Nanos; readonly node: NodeId; readonly at: Nanos; readonly provision_id: string }
  | {
      readonly type: "group_started";
      readonly t: Nanos;
      readonly group: GroupId;
      readonly node: NodeId;
      readonly gpu_indices: readonly number[];
      readonly instances: readonly { readonly instance: InstanceId; readonly gpu_indices: readonly number[] }[];
    }
  | { readonly type: "group_ended"; readonly t: Nanos; readonly group: GroupId; readonly reason: "stopped" | "lost" }
  | { readonly type: "instance_state"; readonly t: Nanos; readonly instance: InstanceId; readonly state: InstanceState }
  | { readonly type: "call_accepted"; readonly t: Nanos; readonly call: CallId; readonly tags: CallTags }
  | {
      readonly type: "leg_joined";
      readonly t: Nanos;
      readonly leg: LegId;
      readonly call: CallId;
      readonly instance: InstanceId;
      readonly role: LegRole;
      readonly weight: number;
    }
  | { readonly type: "leg_holding"; readonly t: Nanos; readonly leg: LegId; readonly weight: number }
  | { readonly type: "leg_left"; readonly t: Nanos; readonly leg: LegId }
  | {
      readonly type: "call_ended";
      readonly t: Nanos;
      readonly call: CallId;
      readonly outcome: "done" | "cancelled" | "shed" | "failed";
      readonly code: string | null;
      readonly tokens: { readonly prompt: number; readonly cached: number; readonly completion: number };
    }
  /** Nothing happened, but time passed: bounds what a crash can lose. */
  | { readonly type: "alive"; readonly t: Nanos }
  | { readonly type: "cut"; readonly t: Nanos };
