/** Nodes: when their GPUs are ours. Their instants are the node agents' own and may lie before or after the record's. */
import { checkConservation, found, sharesOf, type Context, type RecordOf } from "./context.ts";
import { detachGroup } from "./groups.ts";
import type { ProvisionEntry } from "./knowledge.ts";
import { accrue, asNanos, correct, createShare, flush, type KnownProvision } from "./shares.ts";

/**
 * Released provisions that are still recognised when they are stated again; one stated after that many others is taken for new. A node states
 * its newest PROVISIONS_REPORTED_MAX: with sixteen nodes at most in a cell none is forgotten that may be stated.
 */
export const RELEASES_REMEMBERED_MAX = 1_024;
/** Of one node; more are an anomaly. So many GPUs' nanoseconds of a minute are still an exact number. */
const GPUS_MAX = 65_536;

export function nodeProvisioned(ctx: Context, record: RecordOf<"node_provisioned">): void {
  if (ctx.known.released.includes(record.provision_id)) return;
  const again = ctx.known.provisions.get(record.provision_id);
  if (again) return restated(ctx, again, record);
  if (!Number.isSafeInteger(record.gpus) || record.gpus < 1 || record.gpus > GPUS_MAX)
    return ctx.anomaly(`node ${record.node} was provisioned with ${record.gpus} GPUs`);
  for (const { provision } of ctx.known.provisions.values()) {
    const { node, released_at } = provision;
    // A node's instants may be ahead of our line: a release that has not come yet here was before this all the same.
    if (node === record.node && (released_at === null || released_at > record.at))
      ctx.anomaly(`node ${record.node} was provisioned again while ${provision.provision_id} is open`);
  }
  const provision: KnownProvision = {
    provision_id: record.provision_id,
    node: record.node,
    gpus: record.gpus,
    provisioned_at: record.at,
    released_at: null,
    emitted: 0n,
  };
  const pool = createShare({
    subject: record.provision_id,
    group: null,
    instance: null,
    provision,
    gpus: BigInt(record.gpus),
    since: record.at,
    use: "unassigned",
  });
  const { unseen_until } = ctx.known;
  if (unseen_until !== null && unseen_until > record.at) {
    pool.use = "lost";
    accrue(ctx.books, pool, unseen_until);
    pool.use = "unassigned";
  }
  ctx.known.provisions.set(record.provision_id, { provision, pool, gpu_owner: new Map() });
  stateProvision(ctx, provision, null);
}

/** After a boot: the node is there, its GPUs are no longer lost. */
function restated(ctx: Context, entry: ProvisionEntry, record: RecordOf<"node_provisioned">): void {
  const { provision } = entry;
  if (provision.node !== record.node || provision.gpus !== record.gpus || provision.provisioned_at !== record.at) {
    ctx.anomaly(`provision ${record.provision_id} was stated again with another node, size or beginning`);
  }
  found(ctx, entry);
}

export function nodeReleased(ctx: Context, record: RecordOf<"node_released">): void {
  if (ctx.known.released.includes(record.provision_id)) return;
  const entry = ctx.known.provisions.get(record.provision_id);
  if (!entry) return ctx.anomaly(`node ${record.node} released ${record.provision_id}, which is not known`);
  const { provision } = entry;
  if (provision.released_at !== null) return;
  let at: bigint = record.at;
  if (at < provision.provisioned_at) {
    ctx.anomaly(`provision ${provision.provision_id} was released before it began`);
    at = provision.provisioned_at;
  }
  stateProvision(ctx, provision, at);
  const shares = sharesOf(ctx, entry);
  for (const share of shares) accrue(ctx.books, share, at < ctx.now ? at : ctx.now);
  provision.released_at = at;
  if (at > ctx.now) return;
  correct(ctx.books, provision, at, shares);
  close(ctx, entry);
}

function stateProvision(ctx: Context, provision: KnownProvision, released_at: bigint | null): void {
  ctx.output({
    type: "provision",
    provision: {
      provision_id: provision.provision_id,
      node_id: provision.node,
      gpus: provision.gpus,
      provisioned_at: asNanos(provision.provisioned_at),
      released_at: released_at === null ? null : asNanos(released_at),
      reported_by: provision.node,
    },
  });
}

/** Releases that were stated ahead of our line of time, and have come. */
export function closeReleased(ctx: Context): void {
  for (const entry of ctx.known.provisions.values()) {
    const { released_at } = entry.provision;
    if (released_at !== null && released_at <= ctx.now) close(ctx, entry);
  }
}

function close(ctx: Context, entry: ProvisionEntry): void {
  const { provision } = entry;
  for (const share of sharesOf(ctx, entry)) {
    accrue(ctx.books, share, ctx.now);
    flush(ctx.books, share);
  }
  for (const group of ctx.known.groups.values()) if (group.provision_id === provision.provision_id) detachGroup(group);
  checkConservation(ctx, provision);
  ctx.known.provisions.delete(provision.provision_id);
  ctx.known.released.push(provision.provision_id);
  if (ctx.known.released.length > RELEASES_REMEMBERED_MAX) ctx.known.released.shift();
}
