/**
 * A share: some GPUs of one provision that are put to one use at a time. Three kinds: a provision's pool (its GPUs in no group), a
 * group's spare GPUs (in the group, in none of its instances), an instance. Each GPU of a provision is in exactly one share, and
 * each share accounts for its time from `since` on without a gap; from that, time is conserved (I1).
 *
 * Time is accounted for lazily, when something about the share changes or at a cut. It is added up in open rows, one for each
 * leg state and each cost centre, which are given out when a UTC minute or a cut ends them. A row's extent [from, to) is the
 * stretch in which its owner was charged; its quantity is what it was charged of it, which is less when it shared or paused.
 */
import { deriveId, type CallId, type CellId, type GroupId, type InstanceId, type LegId, type NodeId } from "../../../schema/core/ids.ts";
import type { CostCentre, LegState, UsageEvent } from "../../../schema/core/wire/usage.ts";
import { NANOS_PER_MINUTE, type Nanos } from "../../../schema/core/time.ts";
import type { LegRole } from "../vocabulary.ts";
import type { CallTags, CallTokens } from "./records.ts";
import { splitByWeight } from "./split.ts";

/** Cuts that a row learnt of late (a node announced after the fact) is still split at; older ones it may cross, minutes never. */
export const CUTS_REMEMBERED_MAX = 256;

export type OpenRow = { from: bigint; to: bigint; quantity: bigint };

export type KnownCall = {
  readonly call: CallId;
  readonly tags: CallTags;
  readonly accepted_at: bigint;
  ended: boolean;
  /** As last noted; absent until then. */
  sent?: CallTokens;
  /** Legs that have not left: they may outlive the call (KV held after a cancel). */
  legs: number;
  prefill_gpu_ns: bigint;
  decode_gpu_ns: bigint;
};

export type KnownLeg = {
  readonly id: LegId;
  readonly call: KnownCall | null;
  readonly role: LegRole;
  holding: boolean;
  weight: number;
  row: OpenRow | null;
  /** GPU-ns of the open row that are not in its quantity, nor in the call's, yet: a minute's at most, so exact. */
  accrued: number;
  /** Null: it uses no GPU that we account for (its instance is gone, or was never known). */
  share: Share | null;
};

export type Share = {
  /** Names the share in its rows' ids: the instance, the group, or the provision. */
  readonly subject: string;
  readonly group: GroupId | null;
  readonly instance: InstanceId | null;
  readonly provision: KnownProvision;
  gpus: bigint;
  since: bigint;
  /** Who has the time when no leg pays. */
  use: CostCentre;
  legs_pay: boolean;
  /** In the order in which they joined, which is the order of their rows. */
  readonly legs: KnownLeg[];
  /** The same legs, in the order of their ids. */
  readonly by_id: KnownLeg[];
  readonly rows: Map<CostCentre, OpenRow>;
};

export type KnownProvision = {
  readonly provision_id: string;
  readonly node: NodeId;
  readonly gpus: number;
  readonly provisioned_at: bigint;
  /** Set while a release that lies ahead of our own line of time is awaited. */
  released_at: bigint | null;
  /** GPU-nanoseconds on rows given out so far: what conservation is checked on. */
  emitted: bigint;
};

/** Where rows go, and which instants they may not cross. `emit` null: nobody wants the rows, only the state. */
export type Books = {
  readonly cell: CellId;
  readonly cuts: bigint[];
  readonly emit: ((event: UsageEvent) => void) | null;
  /** Of a cell that was taken over: time before it was the former owner's to name, and rows of ours from it have names of their own. */
  readonly unseen_until: () => bigint | null;
};

export const createShare = (of: Pick<Share, "subject" | "group" | "instance" | "provision" | "gpus" | "since" | "use">): Share => ({
  ...of,
  legs_pay: false,
  legs: [],
  by_id: [],
  rows: new Map(),
});

export function join(share: Share, leg: KnownLeg): void {
  leg.share = share;
  share.legs.push(leg);
  let [low, high] = [0, share.by_id.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((share.by_id[middle]?.id ?? "") < leg.id) low = middle + 1;
    else high = middle;
  }
  share.by_id.splice(low, 0, leg);
}

export function leave(share: Share, leg: KnownLeg): void {
  share.legs.splice(share.legs.indexOf(leg), 1);
  share.by_id.splice(share.by_id.indexOf(leg), 1);
}

/** Accounts for the share's time up to `to`, or to the release of its provision if that comes first. */
export function accrue(books: Books, share: Share, to: bigint): void {
  const released_at = share.provision.released_at;
  const end = released_at !== null && released_at < to ? released_at : to;
  while (share.since < end) {
    const boundary = nextBoundary(books, share.since);
    const stop = boundary < end ? boundary : end;
    charge(share, share.since, stop);
    share.since = stop;
    if (stop === boundary) flush(books, share);
  }
}

/** The first minute's end or remembered cut after `instant`. */
export function nextBoundary(books: Books, instant: bigint): bigint {
  let boundary = instant - (instant % NANOS_PER_MINUTE) + NANOS_PER_MINUTE;
  for (let i = books.cuts.length - 1; i >= 0; i--) {
    const cut = books.cuts[i] ?? 0n;
    if (cut <= instant) break;
    if (cut < boundary) boundary = cut;
  }
  return boundary;
}

function charge(share: Share, from: bigint, to: bigint): void {
  const total = (to - from) * share.gpus;
  if (total === 0n) return;
  if (!share.legs_pay || share.legs.length === 0) {
    share.rows.set(share.use, extended(share.rows.get(share.use), from, to, total));
    return;
  }
  const parts = splitByWeight(Number(total), share.by_id);
  for (const [index, leg] of share.by_id.entries()) {
    if (leg.row) leg.row.to = to;
    else leg.row = { from, to, quantity: 0n };
    leg.accrued += parts[index] ?? 0;
  }
}

/** Brings what a leg accrued into its row and its call. */
export function settle(leg: KnownLeg): void {
  if (leg.accrued === 0) return;
  const part = BigInt(leg.accrued);
  leg.accrued = 0;
  if (leg.row) leg.row.quantity += part;
  if (leg.call === null) return;
  if (leg.role === "prefill") leg.call.prefill_gpu_ns += part;
  else leg.call.decode_gpu_ns += part;
}

function extended(row: OpenRow | null | undefined, from: bigint, to: bigint, quantity: bigint): OpenRow {
  if (!row) return { from, to, quantity };
  row.to = to;
  row.quantity += quantity;
  return row;
}

/** Gives out every open row of the share. */
export function flush(books: Books, share: Share): void {
  for (const leg of share.legs) flushLeg(books, leg);
  for (const [centre, row] of share.rows) emitCostCentre(books, share, centre, row);
  share.rows.clear();
}

export function flushLeg(books: Books, leg: KnownLeg): void {
  settle(leg);
  const { row, share, call } = leg;
  leg.row = null;
  if (!row || !share || !call || row.quantity === 0n) return;
  const state: LegState = leg.holding ? "holding" : leg.role;
  share.provision.emitted += row.quantity;
  books.emit?.({
    id: deriveId("usage", books.cell, share.subject, leg.id, state, row.from.toString()),
    source: "fold",
    kind: "gpu_time",
    ...extent(row),
    ...usageTags(call.tags),
    call: call.call,
    leg: leg.id,
    leg_state: state,
    ...place(books, share),
  });
}

function emitCostCentre(books: Books, share: Share, centre: CostCentre, row: OpenRow): void {
  share.provision.emitted += row.quantity;
  books.emit?.({
    id: deriveId("usage", books.cell, share.subject, centre, row.from < (books.unseen_until() ?? 0n) ? "unseen" : "", row.from.toString()),
    source: "fold",
    kind: "gpu_time",
    ...extent(row),
    cost_centre: centre,
    ...place(books, share),
  });
}

/**
 * Takes back time that was charged past the release of its provision: out of the cost centres' rows that are still open, as far
 * as they go; what was given out already by negative rows on `lost`, which no other rows are.
 */
export function correct(books: Books, provision: KnownProvision, from: bigint, shares: readonly Share[]): void {
  let end = from;
  for (const share of shares) if (share.since > end) end = share.since;
  while (from < end) {
    const boundary = nextBoundary(books, from);
    const stop = boundary < end ? boundary : end;
    let over = 0n;
    for (const share of shares) {
      const to = share.since < stop ? share.since : stop;
      if (to > from) over += shrink(share, { from, to: stop, quantity: (to - from) * share.gpus });
    }
    if (over > 0n) emitCorrection(books, provision, "correction", { from, to: stop, quantity: -over });
    from = stop;
  }
}

/**
 * Takes up to `over.quantity` out of the share's open rows between `over.from` and `over.to`: what cannot have been charged before
 * `over.from`. Answers with what is left.
 */
function shrink(share: Share, over: OpenRow): bigint {
  const { from } = over;
  let left = over.quantity;
  for (const [centre, row] of share.rows) {
    // What is open may be of a later minute, which has a turn of its own: else neither would reconcile.
    if (row.to <= from || row.from >= over.to) continue;
    const before = row.from < from ? (from - row.from) * share.gpus : 0n;
    const past = row.quantity > before ? row.quantity - before : 0n;
    const taken = past < left ? past : left;
    row.quantity -= taken;
    left -= taken;
    if (row.quantity === 0n) share.rows.delete(centre);
    else if (row.quantity <= before) row.to = from;
  }
  return left;
}

export function emitCorrection(books: Books, provision: KnownProvision, why: "correction" | "metered_past", row: OpenRow): void {
  provision.emitted += row.quantity;
  books.emit?.({
    id: deriveId("usage", books.cell, provision.provision_id, "lost", why, row.from.toString()),
    source: "fold",
    kind: "gpu_time",
    ...extent(row),
    cost_centre: "lost",
    cell: books.cell,
    node: provision.node,
  });
}

const extent = (row: OpenRow) => ({ from_ns: row.from.toString(), to_ns: row.to.toString(), quantity: row.quantity.toString() });

const place = (books: Books, share: Share) => ({
  cell: books.cell,
  node: share.provision.node,
  ...(share.group === null ? {} : { group: share.group }),
  ...(share.instance === null ? {} : { instance: share.instance }),
});

/** Everything of the tags that a usage event carries; which key asked stays on the call's row. */
export const usageTags = (tags: CallTags) => ({
  tenant: tags.tenant,
  project: tags.project,
  ...(tags.function === null ? {} : { function: tags.function }),
  ...(tags.version === null ? {} : { version: tags.version }),
  ...(tags.run === null ? {} : { run: tags.run }),
  ...(tags.session === null ? {} : { session: tags.session }),
  program: tags.program,
  ...(tags.agent === null ? {} : { agent: tags.agent }),
  model: tags.model,
});

export const asNanos = (value: bigint): Nanos => value as Nanos;
