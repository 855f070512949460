/**
 * The fold's state as JSON (bigint as decimal strings), so that a journal segment can begin with it and replay reads no further back.
 * A fold resumed from it gives the same rows, in the same order, as one that never stopped.
 */
import type { CallId, CellId, GroupId, InstanceId, LegId, NodeId } from "../../../schema/core/ids.ts";
import type { CostCentre } from "../../../schema/core/wire/usage.ts";
import type { InstanceState, LegRole } from "../vocabulary.ts";
import type { GroupEntry, Knowledge, ProvisionEntry } from "./knowledge.ts";
import type { CallTags, CallTokens } from "./records.ts";
import { createShare, join, settle, type KnownCall, type KnownLeg, type OpenRow, type Share } from "./shares.ts";

type SavedRow = { readonly from: string; readonly to: string; readonly quantity: string };
type SavedShare = {
  readonly gpus: string;
  readonly since: string;
  readonly use: CostCentre;
  readonly legs_pay: boolean;
  /** Those that pay, in the order in which they joined. */
  readonly legs: readonly LegId[];
  readonly rows: readonly (readonly [CostCentre, SavedRow])[];
};
type SavedCall = {
  readonly call: CallId;
  readonly tags: CallTags;
  readonly accepted_at: string;
  readonly ended: boolean;
  readonly sent?: CallTokens;
  readonly legs: number;
  readonly prefill_gpu_ns: string;
  readonly decode_gpu_ns: string;
};

export const FOLD_STATE_FORMAT = 1;

export type FoldState = {
  readonly format: typeof FOLD_STATE_FORMAT;
  readonly cell: CellId;
  readonly last_t: string | null;
  readonly cuts: readonly string[];
  readonly released: readonly string[];
  readonly provisions: readonly {
    readonly provision_id: string;
    readonly node: NodeId;
    readonly gpus: number;
    readonly provisioned_at: string;
    readonly released_at: string | null;
    readonly emitted: string;
    readonly pool: SavedShare;
    readonly gpu_owner: readonly (readonly [number, GroupId])[];
  }[];
  readonly groups: readonly {
    readonly group: GroupId;
    readonly provision_id: string | null;
    readonly spare: SavedShare | null;
    readonly instances: readonly { readonly instance: InstanceId; readonly state: InstanceState; readonly share: SavedShare | null }[];
  }[];
  /** The calls that are known by their id, then those that only a leg still refers to. */
  readonly calls: readonly SavedCall[];
  readonly calls_by_id: number;
  readonly legs: readonly {
    readonly id: LegId;
    /** Index into `calls`. */
    readonly call: number | null;
    readonly role: LegRole;
    readonly holding: boolean;
    readonly weight: string;
    readonly row: SavedRow | null;
  }[];
  /** Of a cell that was taken over (knowledge.ts). Left out by older journals: it was not. */
  readonly unseen_until?: string;
  readonly metered_past?: readonly (SavedRow & { readonly provision_id: string })[];
};

export function saveState(cell: CellId, known: Knowledge): FoldState {
  for (const leg of known.legs.values()) settle(leg);
  const calls = new Set<KnownCall>(known.calls.values());
  for (const leg of known.legs.values()) if (leg.call) calls.add(leg.call);
  const call_index = new Map([...calls].map((call, index) => [call, index] as const));
  return {
    format: FOLD_STATE_FORMAT,
    cell,
    last_t: known.last_t === null ? null : known.last_t.toString(),
    cuts: known.cuts.map(String),
    released: [...known.released],
    provisions: [...known.provisions.values()].map(({ provision, pool, gpu_owner }) => ({
      provision_id: provision.provision_id,
      node: provision.node,
      gpus: provision.gpus,
      provisioned_at: provision.provisioned_at.toString(),
      released_at: provision.released_at === null ? null : provision.released_at.toString(),
      emitted: provision.emitted.toString(),
      pool: saveShare(pool),
      gpu_owner: [...gpu_owner],
    })),
    groups: [...known.groups.values()].map(({ group, provision_id, spare, instances }) => ({
      group,
      provision_id,
      spare: spare && saveShare(spare),
      instances: instances.map(({ instance, state, share }) => ({ instance, state, share: share && saveShare(share) })),
    })),
    calls: [...calls].map((call) => ({
      call: call.call,
      tags: call.tags,
      accepted_at: call.accepted_at.toString(),
      ended: call.ended,
      ...(call.sent === undefined ? {} : { sent: call.sent }),
      legs: call.legs,
      prefill_gpu_ns: call.prefill_gpu_ns.toString(),
      decode_gpu_ns: call.decode_gpu_ns.toString(),
    })),
    calls_by_id: known.calls.size,
    legs: [...known.legs.values()].map(({ id, call, role, holding, weight, row }) => ({
      id,
      call: call ? (call_index.get(call) ?? null) : null,
      role,
      holding,
      weight: weight.toString(),
      row: row && saveRow(row),
    })),
    ...(known.unseen_until === null ? {} : { unseen_until: known.unseen_until.toString() }),
    ...(known.metered_past.length === 0
      ? {}
      : { metered_past: known.metered_past.map((past) => ({ provision_id: past.provision_id, ...saveRow(past) })) }),
  };
}

/** Throws when the state is of another cell or format: whoever resumes a fold has mixed up journals. */
export function restoreState(cell: CellId, state: FoldState): Knowledge {
  if (state.format !== FOLD_STATE_FORMAT) throw new Error("fold state has a format that is not read here");
  if (state.cell !== cell) throw new Error(`fold state is of cell ${state.cell}, not ${cell}`);
  const calls = state.calls.map((saved): KnownCall => ({
    ...saved,
    accepted_at: BigInt(saved.accepted_at),
    prefill_gpu_ns: BigInt(saved.prefill_gpu_ns),
    decode_gpu_ns: BigInt(saved.decode_gpu_ns),
  }));
  const legs = new Map<LegId, KnownLeg>();
  for (const saved of state.legs) {
    const call = saved.call === null ? null : (calls[saved.call] ?? null);
    const weight = Number(saved.weight);
    legs.set(saved.id, { ...saved, call, weight, row: saved.row && restoreRow(saved.row), accrued: 0, share: null });
  }
  const provisions = new Map<string, ProvisionEntry>();
  for (const saved of state.provisions) {
    const provision = {
      provision_id: saved.provision_id,
      node: saved.node,
      gpus: saved.gpus,
      provisioned_at: BigInt(saved.provisioned_at),
      released_at: saved.released_at === null ? null : BigInt(saved.released_at),
      emitted: BigInt(saved.emitted),
    };
    const pool = restoreShare(saved.pool, { subject: saved.provision_id, group: null, instance: null, provision }, legs);
    provisions.set(saved.provision_id, { provision, pool, gpu_owner: new Map(saved.gpu_owner) });
  }
  const groups = new Map<GroupId, GroupEntry>();
  for (const { group, provision_id, spare, instances } of state.groups) {
    const provision = provision_id === null ? undefined : provisions.get(provision_id)?.provision;
    const share = (saved: SavedShare | null, instance: InstanceId | null): Share | null =>
      saved && provision ? restoreShare(saved, { subject: instance ?? group, group, instance, provision }, legs) : null;
    const entries = instances.map((saved) => ({ ...saved, share: share(saved.share, saved.instance) }));
    groups.set(group, { group, provision_id, spare: share(spare, null), instances: entries });
  }
  return {
    last_t: state.last_t === null ? null : BigInt(state.last_t),
    cuts: state.cuts.map(BigInt),
    released: [...state.released],
    provisions,
    groups,
    instances: new Map([...groups.values()].flatMap((group) => group.instances.map((instance) => [instance.instance, instance] as const))),
    calls: new Map(calls.slice(0, state.calls_by_id).map((call) => [call.call, call])),
    legs,
    unseen_until: state.unseen_until === undefined ? null : BigInt(state.unseen_until),
    metered_past: (state.metered_past ?? []).map((past) => ({ provision_id: past.provision_id, ...restoreRow(past) })),
  };
}

const saveRow = (row: OpenRow): SavedRow => ({ from: row.from.toString(), to: row.to.toString(), quantity: row.quantity.toString() });
const restoreRow = (row: SavedRow): OpenRow => ({ from: BigInt(row.from), to: BigInt(row.to), quantity: BigInt(row.quantity) });

const saveShare = (share: Share): SavedShare => ({
  gpus: share.gpus.toString(),
  since: share.since.toString(),
  use: share.use,
  legs_pay: share.legs_pay,
  legs: share.legs.map((leg) => leg.id),
  rows: [...share.rows].map(([centre, row]) => [centre, saveRow(row)] as const),
});

type Place = Pick<Share, "subject" | "group" | "instance" | "provision">;

function restoreShare(saved: SavedShare, place: Place, legs: ReadonlyMap<LegId, KnownLeg>): Share {
  const share = createShare({ ...place, gpus: BigInt(saved.gpus), since: BigInt(saved.since), use: saved.use });
  share.legs_pay = saved.legs_pay;
  for (const id of saved.legs) {
    const leg = legs.get(id);
    if (leg) join(share, leg);
  }
  for (const [centre, row] of saved.rows) share.rows.set(centre, restoreRow(row));
  return share;
}
