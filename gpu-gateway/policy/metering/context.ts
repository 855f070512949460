/** What a record's handler works with: what is known, the instant, and where outputs go. */
import type { CellId } from "../../../schema/core/ids.ts";
import type { Knowledge, ProvisionEntry } from "./knowledge.ts";
import type { FoldOutput } from "./outputs.ts";
import type { MeteringRecord } from "./records.ts";
import { accrue, type Books, type KnownProvision, type Share } from "./shares.ts";

export type Context = {
  readonly cell: CellId;
  readonly known: Knowledge;
  readonly books: Books;
  readonly output: (output: FoldOutput) => void;
  readonly anomaly: (detail: string) => void;
  /** The record's instant. */
  now: bigint;
};

export type RecordOf<Type extends MeteringRecord["type"]> = Extract<MeteringRecord, { readonly type: Type }>;

/** All shares of a provision: its pool, its groups' spare GPUs, their instances. */
export function sharesOf(ctx: Context, entry: ProvisionEntry): Share[] {
  const shares = [entry.pool];
  for (const group of ctx.known.groups.values()) {
    if (group.provision_id !== entry.provision.provision_id) continue;
    if (group.spare) shares.push(group.spare);
    for (const instance of group.instances) if (instance.share) shares.push(instance.share);
  }
  return shares;
}

/** I1, as an assertion on what was given out, not on what was meant. */
export function checkConservation(ctx: Context, provision: KnownProvision): void {
  const { released_at, provisioned_at } = provision;
  const until = released_at !== null && released_at < ctx.now ? released_at : ctx.now;
  const provisioned = until > provisioned_at ? (until - provisioned_at) * BigInt(provision.gpus) : 0n;
  const difference = provision.emitted - provisioned;
  if (difference === 0n) return;
  ctx.anomaly(
    `conservation: provision ${provision.provision_id} of node ${provision.node} metered ${difference} GPU-ns more than provisioned`,
  );
}

/** The node has been heard of since the boot: its GPUs in no group are no longer lost. */
export function found(ctx: Context, entry: ProvisionEntry): void {
  if (entry.pool.use === "unassigned") return;
  accrue(ctx.books, entry.pool, ctx.now);
  entry.pool.use = "unassigned";
}
