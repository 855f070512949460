/**
 * A small world of usage for tests of the books: one cell with one node of 4 GPUs over two minutes, calls on two of the GPUs, the rest
 * idle, so that what is metered is what was provisioned, to the nanosecond. The seed decides how time is divided.
 */
import { deriveId } from "../../schema/core/ids.ts";
import { NANOS_PER_MINUTE } from "../../schema/core/time.ts";
import type { UsageEvent } from "../../schema/core/wire/usage.ts";
import type { Shipment } from "../../schema/db/ledger.ts";

export const GPUS = 4n;
/** 2026-01-01T00:00Z. */
export const BEGIN_NS = 1_767_225_600_000_000_000n;
export const MINUTES = 2n;
export const END_NS = BEGIN_NS + MINUTES * NANOS_PER_MINUTE;

export function sampleShipment(seed: number, cell = `cell_${seed}`, tenants: readonly string[] = ["ten_a", "ten_b"]): Shipment {
  let state = BigInt(seed) + 1n;
  const draw = (below: bigint) => {
    state = (state * 6_364_136_223_846_793_005n + 1_442_695_040_888_963_407n) % (1n << 64n);
    return (state >> 16n) % below;
  };
  const usage: UsageEvent[] = [];
  const calls: Shipment["calls"][number][] = [];
  const node = `node_${cell}`;
  for (let minute = 0n; minute < MINUTES; minute++) {
    const from = BEGIN_NS + minute * NANOS_PER_MINUTE;
    const to = from + NANOS_PER_MINUTE;
    let left = GPUS * NANOS_PER_MINUTE;
    for (let c = 0; c < 6; c++) {
      const tenant = tenants[c % tenants.length] ?? "ten_a";
      const call = deriveId("call", cell, String(minute), String(c));
      const tags = { tenant, project: `prj_${tenant}`, function: "fn_1", run: `run_${c % 3}`, agent: `agent ${c % 2}`, model: "m", cell };
      for (const leg_state of ["prefill", "holding", "decode"] as const) {
        const quantity = 1n + draw(NANOS_PER_MINUTE / 20n);
        left -= quantity;
        const id = deriveId("usage", cell, call, leg_state);
        const times = { from_ns: from.toString(), to_ns: to.toString(), quantity: quantity.toString() };
        usage.push({ id, source: "fold", kind: "gpu_time", ...times, ...tags, call, leg_state, node, instance: "ins_1" });
      }
      const prompt = 10 + Number(draw(1_000n));
      const tokens = { prompt, cached: Number(draw(BigInt(prompt))), completion: 1 + Number(draw(500n)) };
      const ended_at = from + 1n + draw(NANOS_PER_MINUTE - 1n);
      calls.push({ call_id: call, tenant, accepted_at: from, ended_at, outcome: "done", code: null, tags, tokens });
      const at = { from_ns: (ended_at - 1n).toString(), to_ns: ended_at.toString() };
      const quantity = (tokens.prompt + tokens.completion).toString();
      usage.push({
        id: deriveId("usage", cell, "tokens", call),
        source: "gateway",
        kind: "tokens",
        ...at,
        quantity,
        ...tags,
        call,
        tokens,
      });
    }
    const rest = { from_ns: from.toString(), to_ns: to.toString(), quantity: left.toString(), cell, node };
    usage.push({ id: deriveId("usage", cell, "idle", String(minute)), source: "fold", kind: "gpu_time", ...rest, cost_centre: "idle" });
  }
  const provision = { provision_id: `prov_${cell}`, node_id: node, gpus: Number(GPUS), provisioned_at: BEGIN_NS, released_at: null };
  return { cell, epoch: 1, usage, calls, provisions: [{ ...provision, reported_by: "agent_1" }], watermark: END_NS };
}
