/**
 * What a fault schedule may do to a world, and what it must be told by it: the contract between the virtual cluster, which has these
 * hooks, and the fault schedule, which pulls them. Each takes effect at the world's present instant; whatever lasts ends by itself at
 * `until`, so that a healed world needs no second call. A hook that finds nothing to act on (no such instance, no transfer under way)
 * answers false: the fault did not fire, and is not counted.
 */
import type { CallId, GroupId, InstanceId, LegId, NodeId, TenantId } from "../../../schema/core/ids.ts";
import type { Micros } from "../../../schema/core/time.ts";
import type { SimCall } from "../types.ts";

export type TransferFault =
  | { readonly type: "lost" }
  /** Arrives this much later than the link would have it; later than the lease, if it is long enough: then nothing may be read. */
  | { readonly type: "late"; readonly by: Micros }
  /** Arrives twice, the second time this much after the first. */
  | { readonly type: "duplicated"; readonly after: Micros };

export interface WorldFaults {
  now(): Micros;
  /**
   * Calls back at that instant, before anything else that happens there is decided; a past instant means now. Ties in the order of
   * asking. A run with such a callback pending is not done, whatever its clients say.
   */
  at(instant: Micros, act: () => void): void;
  /** Alive, in the order of ids. */
  instances(): readonly { readonly instance_id: InstanceId; readonly group_id: GroupId; readonly node_id: NodeId }[];
  nodes(): readonly NodeId[];

  /** Its process dies: requests are cut, its KV is gone, its group is reported lost as soon as its provider notices. */
  killInstance(instance: InstanceId): boolean;
  /** Its steps take `factor` times as long until then. */
  slowInstance(instance: InstanceId, factor: number, until: Micros): boolean;
  /** Healthy to look at, but it begins no step until then. */
  hangInstance(instance: InstanceId, until: Micros): boolean;
  /** Nothing passes between gateway and node until then: new legs cannot connect; what streams is cut. The node itself goes on. */
  partition(node: NodeId, until: Micros): boolean;
  /** Happens to the next P→D transfer that begins before `until`; `fired` is called when it does. */
  nextTransfer(fault: TransferFault, until: Micros, fired?: () => void): boolean;
  /**
   * A client's call arrives now, beside those that `Clients` gives: sessions over lossy links decide late. The same call id again
   * while the call lives is the same call sent again: the scheduler hears of it, and nothing else happens.
   */
  submit(sim: SimCall): void;
  /** Its client wants no more: `call_cancelled` as the runtime would send it. */
  cancelCall(call: CallId, reason: string): boolean;
  /**
   * The gateway's process dies with all that policy knows and is started again after `down`: engines see their connections closed,
   * groups that still run are adopted, calls that were open end as `gateway_lost`.
   */
  restartGateway(down: Micros): boolean;
}

/** What a world tells beyond Observer, for the checker of tenants' isolation (I3): what was really read, not what was meant. */
export type KvRead =
  | {
      readonly type: "prefix_hit";
      readonly instance_id: InstanceId;
      readonly leg_id: LegId;
      readonly tenant: TenantId;
      /** For each block that was found in the cache: whose prompt computed it. */
      readonly computed_by: readonly TenantId[];
    }
  | {
      readonly type: "pulled";
      readonly leg_id: LegId;
      readonly tenant: TenantId;
      readonly from: LegId;
      /** The leg whose KV lay in the blocks when they were read; null: the blocks were free. */
      readonly found: { readonly leg_id: LegId; readonly tenant: TenantId } | null;
    };

export interface KvObserver {
  kvRead?(read: KvRead): void;
}
