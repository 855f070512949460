/** Provider: launches instance groups, lists what exists (for adoption), stops them, reports loss. */
import type { GroupId, InstanceId, NodeId } from "../../schema/core/ids.ts";
import type { Nanos } from "../../schema/core/time.ts";
import type { Role } from "../policy/vocabulary.ts";

export type GroupSpec = {
  readonly group_id: GroupId;
  readonly model: string;
  readonly role: Role;
  /** Which engine to start, by its name in the configuration ("simulated", "vllm"). */
  readonly engine: string;
  readonly gpus: number;
};

export type RunningGroup = {
  readonly group_id: GroupId;
  readonly node_id: NodeId;
  readonly model: string;
  readonly role: Role;
  readonly engine: string;
  readonly gpu_indices: readonly number[];
  readonly instances: readonly { readonly instance_id: InstanceId; readonly url: string; readonly gpu_indices: readonly number[] }[];
  readonly state: "loading" | "ready" | "failed";
  readonly epoch: number;
  /** Wall time at which the allocation ends, if it does. */
  readonly ends_at: Nanos | null;
};

/** One stretch of a node's GPUs being ours, from its own durable record: what metering is reconciled against (I1). */
export type Provision = {
  readonly provision_id: string;
  readonly node_id: NodeId;
  readonly gpus: number;
  readonly provisioned_at: Nanos;
  readonly released_at: Nanos | null;
  readonly reported_by: string;
};

/** Each launched group ends in exactly one `group_stopped` or `group_lost`, also one that failed to get ready. */
export type ProviderEvent =
  | { readonly type: "provision"; readonly provision: Provision }
  | { readonly type: "group"; readonly group: RunningGroup }
  | { readonly type: "group_lost"; readonly group_id: GroupId; readonly reason: string }
  | { readonly type: "group_stopped"; readonly group_id: GroupId }
  | { readonly type: "node_unreachable"; readonly node_id: NodeId; readonly since_ms: number };

export type LaunchOutcome =
  | { readonly type: "launching"; readonly group: RunningGroup }
  | { readonly type: "refused"; readonly reason: string };

/**
 * A node takes commands of a newer epoch, or of another cell with a live lease (I13). `open`, `renew`, `stop` and `release` reject with
 * this; `launch` is refused. Whoever meets it commands these nodes no more: nothing to retry.
 */
export class Fenced extends Error {
  override readonly name = "Fenced";
  /** The epoch that commands now; null when another cell does. */
  readonly current_epoch: number | null;

  constructor(message: string, current_epoch: number | null) {
    super(message);
    this.current_epoch = current_epoch;
  }
}

export interface Provider {
  readonly name: string;
  /**
   * Brings up or finds the nodes, claims them for (cell, epoch), reports what already runs. Events flow to `on_event` until `close`.
   * `holds` is asked before each command: once it says no the cell's lease may be over, and the answer is Fenced without a word to a node.
   */
  open(
    owner: { readonly cell: string; readonly epoch: number; readonly lease_ms: number; readonly holds?: () => boolean },
    on_event: (event: ProviderEvent) => void,
  ): Promise<readonly RunningGroup[]>;
  launch(spec: GroupSpec): Promise<LaunchOutcome>;
  /** Idempotent: a group that is gone is stopped. Resolves when the node has taken it, or will when it can be reached again; `group_stopped` says that it is done. */
  stop(group_id: GroupId): Promise<void>;
  /** Renews the nodes' lease; called on a period well below lease_ms. Resolves with each node's own view of now: it is provisioned until then. A node that cannot be reached is left out. */
  renew(): Promise<readonly { readonly node_id: NodeId; readonly confirmed_at: Nanos }[]>;
  /** Gives every GPU back: stops groups, releases nodes. */
  release(): Promise<readonly Provision[]>;
  /** Stops listening; leaves nodes and groups as they are. */
  close(): Promise<void>;
}
