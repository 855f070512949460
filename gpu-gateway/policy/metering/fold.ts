/**
 * Allocation as a pure fold over the journal (D5): anyone who has the file gets the same rows. The rules are in records.ts.
 *
 * What is known: provisions (a node's GPUs while they are ours), groups on them, instances in the groups, calls, and legs on
 * instances. A GPU moves between shares (shares.ts) and nowhere else: pool → group at `group_started`, back at `group_ended`, all
 * to the pool at `boot`, out of the books at the end of the provision. Before any move both shares are accounted for up to that instant.
 *
 * A record that contradicts the state gives an anomaly and otherwise changes as little as possible; whatever comes, time is conserved.
 * At every cut each provision is checked (I1): rows given out = GPUs × time since it was provisioned. What is known of calls and legs is bounded by
 * what the runtime admits; CUTS_REMEMBERED_MAX and RELEASES_REMEMBERED_MAX bound the rest.
 */
import type { CallId, CellId } from "../../../schema/core/ids.ts";
import { callAccepted, callEnded, callsProgressed, forgetCall, legHolding, legJoined, legLeft, settleLegs } from "./calls.ts";
import { restoreState, saveState, type FoldState } from "./checkpoint.ts";
import { checkConservation, sharesOf, type Context } from "./context.ts";
import { groupEnded, groupStarted, instanceState } from "./groups.ts";
import { emptyKnowledge, type Knowledge } from "./knowledge.ts";
import { closeReleased, nodeProvisioned, nodeReleased } from "./nodes.ts";
import type { CallGpuTime, FoldOutput } from "./outputs.ts";
import type { CallTokens, MeteringRecord } from "./records.ts";
import { accrue, asNanos, CUTS_REMEMBERED_MAX, emitCorrection, flush } from "./shares.ts";

export interface Fold {
  apply(record: MeteringRecord): readonly FoldOutput[];
  checkpoint(): FoldState;
  /** Of a call that has not ended, or whose legs have not all left. */
  call_gpu_time(call: CallId): CallGpuTime | undefined;
  /** Accepted, not ended. */
  open_calls(): readonly CallId[];
  /** What was noted last of a call that has not ended: it was sent that much at least. */
  tokens_sent(call: CallId): CallTokens;
}

export type FoldOptions = {
  /** False: no usage is given out (its ids are hashes, and cost more than all the rest); everything else is the same. */
  readonly usage?: boolean;
};

export function createFold(cell: CellId, state?: FoldState, { usage = true }: FoldOptions = {}): Fold {
  const known: Knowledge = state ? restoreState(cell, state) : emptyKnowledge();
  let outputs: FoldOutput[] = [];
  const output = (one: FoldOutput): void => void outputs.push(one);
  const ctx: Context = {
    cell,
    known,
    books: {
      cell,
      cuts: known.cuts,
      emit: usage ? (event) => output({ type: "usage", event }) : null,
      unseen_until: () => known.unseen_until,
    },
    output,
    anomaly: (detail) => output({ type: "anomaly", t: asNanos(ctx.now), detail }),
    now: known.last_t ?? 0n,
  };

  return {
    apply(record) {
      outputs = [];
      const before = known.last_t;
      ctx.now = record.t;
      if (before !== null && ctx.now < before) {
        ctx.anomaly(`${record.type} goes back ${before - ctx.now} ns in time: taken as of the record before`);
        ctx.now = before;
      }
      known.last_t = ctx.now;
      // A boot ends what was before it first: a release since then finds its time on `lost`.
      if (record.type === "boot" && before !== null) boot(ctx, before);
      closeReleased(ctx);
      handle(ctx, record);
      return outputs;
    },
    checkpoint: () => saveState(cell, known),
    call_gpu_time(id) {
      const call = known.calls.get(id);
      if (call) settleLegs(known, call);
      return call && { prefill_gpu_ns: call.prefill_gpu_ns, decode_gpu_ns: call.decode_gpu_ns };
    },
    tokens_sent: (id) => known.calls.get(id)?.sent ?? { prompt: 0, cached: 0, completion: 0 },
    open_calls: () => [...known.calls.values()].filter((call) => !call.ended).map((call) => call.call),
  };
}

function handle(ctx: Context, record: MeteringRecord): void {
  switch (record.type) {
    case "boot":
    case "alive":
      return;
    case "node_provisioned":
      return nodeProvisioned(ctx, record);
    case "node_released":
      return nodeReleased(ctx, record);
    case "group_started":
      return groupStarted(ctx, record);
    case "group_ended":
      return groupEnded(ctx, record);
    case "instance_state":
      return instanceState(ctx, record);
    case "call_accepted":
      return callAccepted(ctx, record);
    case "calls_progressed":
      return callsProgressed(ctx, record);
    case "leg_joined":
      return legJoined(ctx, record);
    case "leg_holding":
      return legHolding(ctx, record);
    case "leg_left":
      return legLeft(ctx, record);
    case "call_ended":
      return callEnded(ctx, record);
    case "cut":
      return cut(ctx);
  }
}

/** The process that wrote the last record is gone, and with it its legs. What it knew of groups must be stated again. */
function boot(ctx: Context, before: bigint): void {
  for (const entry of ctx.known.provisions.values()) {
    for (const share of sharesOf(ctx, entry)) {
      accrue(ctx.books, share, before);
      flush(ctx.books, share);
    }
    entry.pool.gpus = BigInt(entry.provision.gpus);
    entry.pool.use = "lost";
    entry.gpu_owner.clear();
  }
  ctx.known.groups.clear();
  ctx.known.instances.clear();
  ctx.known.legs.clear();
  for (const call of ctx.known.calls.values()) {
    call.legs = 0;
    forgetCall(ctx, call);
  }
  // All of the time since the watermark goes to `lost`; what its former owner had charged of it already is taken off again.
  for (const { provision_id, from, to, quantity } of ctx.known.metered_past.splice(0)) {
    const entry = ctx.known.provisions.get(provision_id);
    if (entry) emitCorrection(ctx.books, entry.provision, "metered_past", { from, to, quantity: -quantity });
  }
  if (ctx.known.unseen_until === before) ctx.known.unseen_until = ctx.now;
}

function cut(ctx: Context): void {
  for (const entry of ctx.known.provisions.values()) {
    for (const share of sharesOf(ctx, entry)) {
      accrue(ctx.books, share, ctx.now);
      flush(ctx.books, share);
    }
    checkConservation(ctx, entry.provision);
  }
  ctx.known.cuts.push(ctx.now);
  if (ctx.known.cuts.length > CUTS_REMEMBERED_MAX) ctx.known.cuts.shift();
  ctx.output({ type: "watermark", t: asNanos(ctx.now) });
}
