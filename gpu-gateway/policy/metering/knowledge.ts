/** What the fold knows between two records, and nothing about how it changes. */
import type { CallId, GroupId, InstanceId, LegId } from "../../../schema/core/ids.ts";
import type { InstanceState } from "../vocabulary.ts";
import type { KnownCall, KnownLeg, KnownProvision, Share } from "./shares.ts";

export type ProvisionEntry = { readonly provision: KnownProvision; readonly pool: Share; readonly gpu_owner: Map<number, GroupId> };
export type InstanceEntry = { readonly instance: InstanceId; state: InstanceState; share: Share | null };
export type GroupEntry = {
  readonly group: GroupId;
  /** Null: its node is not, or no longer, provisioned. */
  provision_id: string | null;
  spare: Share | null;
  readonly instances: readonly InstanceEntry[];
};

/** All that the fold knows. Maps keep the order in which things became known, so that a resumed fold gives the same rows in the same order. */
export type Knowledge = {
  last_t: bigint | null;
  readonly cuts: bigint[];
  readonly released: string[];
  readonly provisions: Map<string, ProvisionEntry>;
  readonly groups: Map<GroupId, GroupEntry>;
  readonly instances: Map<InstanceId, InstanceEntry>;
  readonly calls: Map<CallId, KnownCall>;
  readonly legs: Map<LegId, KnownLeg>;
  /** Set where the cell was another's before this journal: what happened before this instant, nobody here saw. */
  unseen_until: bigint | null;
  /** Rows that the former owner had in the ledger past its watermark, by provision and UTC minute, until the next boot takes them back. */
  metered_past: MeteredPast[];
};

export type MeteredPast = { readonly provision_id: string; readonly from: bigint; readonly to: bigint; readonly quantity: bigint };

export const emptyKnowledge = (): Knowledge => ({
  last_t: null,
  cuts: [],
  released: [],
  provisions: new Map(),
  groups: new Map(),
  instances: new Map(),
  calls: new Map(),
  legs: new Map(),
  unseen_until: null,
  metered_past: [],
});
