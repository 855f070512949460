/**
 * The journal's vocabulary: the inputs of metering, and nothing derived (D5). Allocation is a pure fold over these
 * (fold.ts), so that anyone can recompute it from the file.
 *
 * `t` is UTC nanoseconds on the cell's own line of time: the boot record's anchor plus monotonic time since. It never
 * goes back within a journal: a boot whose wall clock is behind the last record begins at that record. A node's own instants
 * (`at`) are from the node agent's record and are used as they are for the edges of provisioned time.
 *
 * Rules of the fold, each tested:
 *  - A GPU is provisioned from `node_provisioned.at` to `node_released.at`, the node's own instants, whichever side of `t` they
 *    are on. GPUs in no group go to `unassigned`; GPUs of a group that are in none of its instances to `idle`.
 *  - A group's GPUs go to `loading` from `group_started` until each instance's first `instance_state: ready`, and back to
 *    `unassigned` at `group_ended`. State the node before its groups; a GPU is in one group at a time.
 *  - A ready instance with no active leg is `idle`; with active legs its time × GPUs is split by weight, largest remainder
 *    first, ties by leg id. `loading`, `waking`, `lost`, and `draining` with no leg, are as named; `sleeping` is `idle`. Draining
 *    with legs: the legs pay. In the other states legs do not pay: nothing is computed for them.
 *  - A prefill leg that finished with KV to hand over stays active in state `holding`, with another weight, until `leg_left`.
 *    A leg may outlive its call; the call pays. A leg whose group or node is gone uses nothing until it leaves.
 *  - `boot` after other records: everything from the last record's `t` goes to `lost`, active legs are ended, groups are forgotten.
 *    A node's GPUs stay `lost` until the node is stated again (`node_provisioned` with the same provision) or a group on it is.
 *    Calls that were open stay so until `call_ended`.
 *  - A journal that begins where another owner's watermark stands (takeover.ts): `boot` sends everything since then to `lost`, less what the
 *    former owner had in the ledger past its watermark, which is taken off by negative rows on `lost`. A provision that nobody had
 *    told the ledger of is `lost` from its beginning to that boot.
 *  - `cut` closes every open row at `t` and is the watermark: all rows of earlier time have been given. No row crosses a UTC minute,
 *    nor a cut (one announced late is split at the last CUTS_REMEMBERED_MAX).
 *  - A row is what one leg state or cost centre of one instance (group, node) was charged between two such ends; its quantity is
 *    less than its extent × GPUs where it shared or paused. Rows of nothing are not given.
 *  - A `node_released.at` before time already metered is corrected: out of rows that are still open, else by rows on `lost` of the
 *    node, with the negative of all that its GPUs were charged past `at`. Only corrections are negative. What legs were charged there stays: `lost` bears it.
 *  - `call_ended` gives the call's row and one `tokens` event, in the nanosecond that ends there.
 *  - A provision that was released is not opened again; stating it, or its release, once more changes nothing.
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

export type CallTokens = { readonly prompt: number; readonly cached: number; readonly completion: number };

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
  /** Tokens of calls under way, as far as they were sent on: what is booked at least, if this process does not live to end them. */
  | { readonly type: "calls_progressed"; readonly t: Nanos; readonly calls: readonly (CallTokens & { readonly call: CallId })[] }
  | { readonly type: "leg_holding"; readonly t: Nanos; readonly leg: LegId; readonly weight: number }
  | { readonly type: "leg_left"; readonly t: Nanos; readonly leg: LegId }
  | {
      readonly type: "call_ended";
      readonly t: Nanos;
      readonly call: CallId;
      readonly outcome: "done" | "cancelled" | "shed" | "failed";
      readonly code: string | null;
      readonly tokens: CallTokens;
    }
  /** Nothing happened, but time passed: bounds what a crash can lose. */
  | { readonly type: "alive"; readonly t: Nanos }
  | { readonly type: "cut"; readonly t: Nanos };
