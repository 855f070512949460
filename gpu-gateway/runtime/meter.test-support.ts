/** A small world for the meter's tests: one node of four GPUs with two instances, and calls that go through both. */
import { asId } from "../../schema/core/ids.ts";
import type { Nanos } from "../../schema/core/time.ts";
import type { CallTags } from "../policy/metering/records.ts";
import type { Meter } from "./meter.ts";

export const CELL = asId<"cell">("cell_meter");
export const NODE = asId<"node">("node_a");
export const PROVISION = "prov_a";

export const TAGS: CallTags = {
  tenant: "ten_a",
  project: "prj_a",
  function: "fn_a",
  version: "ver_a",
  run: "run_a",
  session: null,
  program: "run_a",
  agent: "router",
  model: "llama-3-8b",
  key: "key_a",
};

/** What a gateway states after it opened its provider: the node, a group on three of its GPUs, both instances ready. */
export function announce(meter: Meter, provisioned_at: Nanos): void {
  meter.record({ type: "node_provisioned", node: NODE, gpus: 4, at: provisioned_at, provision_id: PROVISION });
  startGroup(meter, "a");
}

export function startGroup(meter: Meter, name: string): void {
  const prefill = { instance: asId<"instance">("ins_prefill"), gpu_indices: [0] };
  const decode = { instance: asId<"instance">("ins_decode"), gpu_indices: [1, 2] };
  const group = asId<"group">(`grp_${name}`);
  meter.record({ type: "group_started", group, node: NODE, gpu_indices: [0, 1, 2], instances: [prefill, decode] });
  for (const { instance } of [prefill, decode]) meter.record({ type: "instance_state", instance, state: "ready" });
}

export function accept(meter: Meter, call: string): void {
  meter.record({ type: "call_accepted", call: asId<"call">(call), tags: TAGS });
}

/** Both legs of an accepted call; its KV is held at the prefill instance while it decodes. */
export function serve(meter: Meter, call: string): void {
  const [prefill, decode] = [asId<"leg">(`${call}.0.prefill`), asId<"leg">(`${call}.0.decode`)];
  const id = asId<"call">(call);
  meter.record({ type: "leg_joined", leg: prefill, call: id, instance: asId<"instance">("ins_prefill"), role: "prefill", weight: 900 });
  meter.record({ type: "leg_holding", leg: prefill, weight: 7 });
  meter.record({ type: "leg_joined", leg: decode, call: id, instance: asId<"instance">("ins_decode"), role: "decode", weight: 31 });
  meter.record({ type: "leg_left", leg: prefill });
  meter.record({ type: "leg_left", leg: decode });
  meter.record({ type: "call_ended", call: id, outcome: "done", code: null, tokens: { prompt: 90, cached: 30, completion: 12 } });
}
