/** Calls and their legs: who pays. A leg may outlive its call (KV held after a cancel) and its instance (its end is told later). */
import { deriveId, type LegId } from "../../../schema/core/ids.ts";
import type { Context, RecordOf } from "./context.ts";
import type { Knowledge } from "./knowledge.ts";
import { accrue, asNanos, flushLeg, join, leave, settle, usageTags, type KnownCall, type KnownLeg } from "./shares.ts";

export function callAccepted(ctx: Context, record: RecordOf<"call_accepted">): void {
  const call = ctx.known.calls.get(record.call);
  if (call && !call.ended) return ctx.anomaly(`call ${record.call} was accepted again before it ended`);
  const { call: id, tags } = record;
  ctx.known.calls.set(id, { call: id, tags, accepted_at: ctx.now, ended: false, legs: 0, prefill_gpu_ns: 0n, decode_gpu_ns: 0n });
}

export function callsProgressed(ctx: Context, record: RecordOf<"calls_progressed">): void {
  for (const { call: id, prompt, cached, completion } of record.calls) {
    const call = ctx.known.calls.get(id);
    if (call) call.sent = { prompt, cached, completion };
    else ctx.anomaly(`call ${id} progressed, but is not known`);
  }
}

export function legJoined(ctx: Context, record: RecordOf<"leg_joined">): void {
  if (ctx.known.legs.has(record.leg)) return ctx.anomaly(`leg ${record.leg} joined again`);
  const call = ctx.known.calls.get(record.call) ?? null;
  const share = ctx.known.instances.get(record.instance)?.share ?? null;
  if (!call) ctx.anomaly(`leg ${record.leg} joined for call ${record.call}, which is not known: others pay for its time`);
  if (!share) ctx.anomaly(`leg ${record.leg} joined instance ${record.instance}, which has no GPU that is known`);
  const weight = checkedWeight(ctx, record.leg, record.weight);
  const leg: KnownLeg = { id: record.leg, call, role: record.role, holding: false, weight, row: null, accrued: 0, share: null };
  ctx.known.legs.set(leg.id, leg);
  if (call) call.legs += 1;
  if (!call || !share) return;
  accrue(ctx.books, share, ctx.now);
  join(share, leg);
}

export function legHolding(ctx: Context, record: RecordOf<"leg_holding">): void {
  const leg = ctx.known.legs.get(record.leg);
  if (!leg) return ctx.anomaly(`leg ${record.leg} holds KV, but is not known`);
  if (leg.share) accrue(ctx.books, leg.share, ctx.now);
  flushLeg(ctx.books, leg);
  leg.holding = true;
  leg.weight = checkedWeight(ctx, record.leg, record.weight);
}

export function legLeft(ctx: Context, record: RecordOf<"leg_left">): void {
  const leg = ctx.known.legs.get(record.leg);
  if (!leg) return ctx.anomaly(`leg ${record.leg} left, but is not known`);
  if (leg.share) {
    accrue(ctx.books, leg.share, ctx.now);
    flushLeg(ctx.books, leg);
    leave(leg.share, leg);
  }
  ctx.known.legs.delete(leg.id);
  if (!leg.call) return;
  leg.call.legs -= 1;
  forgetCall(ctx, leg.call);
}

function checkedWeight(ctx: Context, leg: LegId, weight: number): number {
  if (Number.isSafeInteger(weight) && weight > 0) return weight;
  ctx.anomaly(`leg ${leg} has weight ${weight}, which is not a positive integer: 1 is taken`);
  return 1;
}

export function callEnded(ctx: Context, record: RecordOf<"call_ended">): void {
  const call = ctx.known.calls.get(record.call);
  if (!call || call.ended) return ctx.anomaly(`call ${record.call} ended, but is not open`);
  call.ended = true;
  const tokens = checkedTokens(ctx, record);
  const { tags } = call;
  settleLegs(ctx.known, call);
  ctx.output({
    type: "call",
    row: {
      call_id: call.call,
      tenant: tags.tenant,
      accepted_at: asNanos(call.accepted_at),
      ended_at: asNanos(ctx.now),
      outcome: record.outcome,
      code: record.code,
      tags,
      tokens,
    },
    gpu_time: { prefill_gpu_ns: call.prefill_gpu_ns, decode_gpu_ns: call.decode_gpu_ns },
  });
  // Tokens are used at an instant. The nanosecond that ends there is theirs: it lies in one minute, and before the next cut.
  const from = ctx.now === ctx.known.cuts.at(-1) || ctx.now === 0n ? ctx.now : ctx.now - 1n;
  ctx.books.emit?.({
    id: deriveId("usage", ctx.cell, "tokens", call.call, call.accepted_at.toString()),
    source: "gateway",
    kind: "tokens",
    from_ns: from.toString(),
    to_ns: (from + 1n).toString(),
    quantity: (tokens.prompt + tokens.completion).toString(),
    ...usageTags(tags),
    call: call.call,
    cell: ctx.cell,
    tokens,
  });
  forgetCall(ctx, call);
}

/** A call's legs mostly left before it ended: KV that is held after a cancel has not. */
export function settleLegs(known: Knowledge, call: KnownCall): void {
  if (call.legs === 0) return;
  for (const leg of known.legs.values()) if (leg.call === call) settle(leg);
}

function checkedTokens(ctx: Context, { call, tokens }: RecordOf<"call_ended">) {
  const whole = (n: number): number => (Number.isSafeInteger(n) && n > 0 ? n : 0);
  const prompt = whole(tokens.prompt);
  const checked = { prompt, cached: Math.min(prompt, whole(tokens.cached)), completion: whole(tokens.completion) };
  if (checked.prompt !== tokens.prompt || checked.cached !== tokens.cached || checked.completion !== tokens.completion) {
    ctx.anomaly(`call ${call} ended with impossible token counts ${JSON.stringify(tokens)}`);
  }
  return checked;
}

export function forgetCall(ctx: Context, call: KnownCall): void {
  if (call.ended && call.legs === 0 && ctx.known.calls.get(call.call) === call) ctx.known.calls.delete(call.call);
}
