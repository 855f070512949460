/** Groups and instances: which GPUs are put to which use. */
import type { GroupId, InstanceId, NodeId } from "../../../schema/core/ids.ts";
import type { CostCentre } from "../../../schema/core/wire/usage.ts";
import type { InstanceState } from "../vocabulary.ts";
import { found, type Context, type RecordOf } from "./context.ts";
import type { GroupEntry, InstanceEntry, ProvisionEntry } from "./knowledge.ts";
import { accrue, createShare, flush, type Share } from "./shares.ts";

const USE_OF_STATE: Readonly<Record<InstanceState, CostCentre>> = {
  loading: "loading",
  ready: "idle",
  sleeping: "idle",
  waking: "waking",
  draining: "draining",
  lost: "lost",
};

export function groupStarted(ctx: Context, record: RecordOf<"group_started">): void {
  if (ctx.known.groups.has(record.group)) return ctx.anomaly(`group ${record.group} started, but it is there already`);
  const entry = provisionOf(ctx, record.node);
  if (!entry) ctx.anomaly(`group ${record.group} started on node ${record.node}, which is not provisioned`);
  else found(ctx, entry);
  const free = new Set(record.gpu_indices.filter((index) => entry && isFree(entry, index)));
  if (free.size !== record.gpu_indices.length)
    ctx.anomaly(`group ${record.group} names GPUs of ${record.node} that are taken or not there`);
  if (entry) {
    accrue(ctx.books, entry.pool, ctx.now);
    entry.pool.gpus -= BigInt(free.size);
    for (const index of free) entry.gpu_owner.set(index, record.group);
  }
  const instances: InstanceEntry[] = [];
  for (const { instance, gpu_indices } of record.instances) {
    if (ctx.known.instances.has(instance)) {
      ctx.anomaly(`instance ${instance} of group ${record.group} is there already`);
      continue;
    }
    const own = [...new Set(gpu_indices)].filter((index) => free.delete(index));
    if (own.length !== gpu_indices.length) ctx.anomaly(`instance ${instance} names GPUs that its group does not have`);
    const share = entry ? groupShare(entry, record.group, instance, own.length, "loading") : null;
    const known_instance: InstanceEntry = { instance, state: "loading", share };
    ctx.known.instances.set(instance, known_instance);
    instances.push(known_instance);
  }
  const spare = entry && free.size > 0 ? groupShare(entry, record.group, null, free.size, "idle") : null;
  ctx.known.groups.set(record.group, { group: record.group, provision_id: entry?.provision.provision_id ?? null, spare, instances });
}

function groupShare(entry: ProvisionEntry, group: GroupId, instance: InstanceId | null, gpus: number, use: CostCentre): Share {
  return createShare({
    subject: instance ?? group,
    group,
    instance,
    provision: entry.provision,
    gpus: BigInt(gpus),
    since: entry.pool.since,
    use,
  });
}

/** The newest provision of the node: an older one that is still open is an anomaly of its own. */
function provisionOf(ctx: Context, node: NodeId): ProvisionEntry | undefined {
  let newest: ProvisionEntry | undefined;
  for (const entry of ctx.known.provisions.values()) if (entry.provision.node === node) newest = entry;
  return newest;
}

const isFree = (entry: ProvisionEntry, index: number): boolean =>
  Number.isSafeInteger(index) && index >= 0 && index < entry.provision.gpus && !entry.gpu_owner.has(index);

export function groupEnded(ctx: Context, record: RecordOf<"group_ended">): void {
  const group = ctx.known.groups.get(record.group);
  if (!group) return ctx.anomaly(`group ${record.group} ended, but is not known`);
  const entry = group.provision_id === null ? undefined : ctx.known.provisions.get(group.provision_id);
  if (entry) giveBack(ctx, entry, group);
  detachGroup(group);
  ctx.known.groups.delete(group.group);
  for (const { instance } of group.instances) ctx.known.instances.delete(instance);
}

/** The group's GPUs return to the pool. */
function giveBack(ctx: Context, entry: ProvisionEntry, group: GroupEntry): void {
  accrue(ctx.books, entry.pool, ctx.now);
  for (const share of [group.spare, ...group.instances.map((instance) => instance.share)]) {
    if (!share) continue;
    accrue(ctx.books, share, ctx.now);
    flush(ctx.books, share);
    entry.pool.gpus += share.gpus;
  }
  for (const [index, owner] of entry.gpu_owner) if (owner === group.group) entry.gpu_owner.delete(index);
}

/** The group holds no GPU any more; its legs use none until they leave. Its shares were flushed. */
export function detachGroup(group: GroupEntry): void {
  group.provision_id = null;
  group.spare = null;
  for (const instance of group.instances) {
    for (const leg of instance.share?.legs ?? []) leg.share = null;
    instance.share = null;
  }
}

export function instanceState(ctx: Context, record: RecordOf<"instance_state">): void {
  const instance = ctx.known.instances.get(record.instance);
  if (!instance) return ctx.anomaly(`instance ${record.instance} is ${record.state}, but is not known`);
  instance.state = record.state;
  const { share } = instance;
  if (!share) return;
  accrue(ctx.books, share, ctx.now);
  share.use = USE_OF_STATE[record.state];
  share.legs_pay = record.state === "ready" || record.state === "draining";
}
