/**
 * Random record sequences for the property tests: several nodes, groups, instances, legs that join, hold and leave, state changes,
 * cuts, crashes, releases early and ahead of time; now and then a record that contradicts the state.
 */
import * as fc from "fast-check";
import { asId } from "../../../schema/core/ids.ts";
import { nanos } from "../../../schema/core/time.ts";
import type { InstanceState, LegRole } from "../vocabulary.ts";
import type { CallTags, MeteringRecord } from "./records.ts";

export const CELL = asId<"cell">("cell_test");
export const START = 1_795_000_000_000_000_000n;

export const tags = (tenant: string): CallTags => ({
  tenant,
  project: "prj_1",
  function: "fn_1",
  version: null,
  run: "run_1",
  session: null,
  program: "run_1",
  agent: "router",
  model: "llama-3-8b",
  key: "key_1",
});

export type Step = { readonly op: number; readonly dt: bigint; readonly a: number; readonly b: number; readonly lag: bigint };

const dt = fc.oneof(
  { weight: 6, arbitrary: fc.bigInt(1n, 50_000_000n) },
  { weight: 3, arbitrary: fc.bigInt(1n, 9_000_000_000n) },
  { weight: 1, arbitrary: fc.bigInt(30_000_000_000n, 200_000_000_000n) },
  { weight: 2, arbitrary: fc.bigInt(1n, 7n) },
);
const step: fc.Arbitrary<Step> = fc.record({
  op: fc.integer({ min: 0, max: 99 }),
  dt,
  a: fc.nat(1_000),
  b: fc.nat(1_000),
  lag: fc.bigInt(-3_000_000_000n, 90_000_000_000n),
});
export const steps = fc.array(step, { minLength: 5, maxLength: 70, size: "max" });

const STATES: readonly InstanceState[] = ["ready", "ready", "ready", "loading", "sleeping", "waking", "draining", "lost"];
const ROLES: readonly LegRole[] = ["prefill", "decode", "whole"];
const OUTCOMES = ["done", "cancelled", "shed", "failed"] as const;

/** Interprets the steps against a small model of what is there, so that most records make sense. */
export function recordsOf(all: readonly Step[]): MeteringRecord[] {
  const records: MeteringRecord[] = [{ type: "boot", t: nanos(START), cell: CELL, epoch: 1, boot_id: "boot0" }];
  const nodes = new Map<number, { provision_id: string; at: bigint; gpus: number; free: Set<number> }>();
  const released_until = new Map<number, bigint>();
  let groups: { group: string; node: number; gpus: number[]; instances: string[] }[] = [];
  let legs: { leg: string; call: string }[] = [];
  let calls: string[] = [];
  let t = START;
  let serial = 0;
  const pick = <T>(list: readonly T[], index: number): T | undefined => list[index % Math.max(1, list.length)];

  for (const { op, dt: elapsed, a, b, lag } of all) {
    t += elapsed;
    const at_t = { t: nanos(t) };
    serial += 1;
    if (op < 14) {
      const n = a % 3;
      const node = asId<"node">(`node${n}`);
      let entry = nodes.get(n);
      if (!entry) {
        let at = t - lag;
        const earliest = released_until.get(n) ?? START - 500_000_000_000n;
        if (at < earliest) at = earliest;
        const gpus = 1 + (b % 4);
        entry = { provision_id: `prov${serial}`, at, gpus, free: new Set(Array.from({ length: gpus }, (_, i) => i)) };
        nodes.set(n, entry);
      }
      records.push({ type: "node_provisioned", ...at_t, node, gpus: entry.gpus, at: nanos(entry.at), provision_id: entry.provision_id });
    } else if (op < 18) {
      const n = a % 3;
      const entry = nodes.get(n);
      if (!entry) continue;
      let at = t - lag / 3n;
      if (at < entry.at) at = entry.at;
      nodes.delete(n);
      released_until.set(n, at);
      groups = groups.filter((group) => group.node !== n || b % 2 === 0);
      records.push({ type: "node_released", ...at_t, node: asId<"node">(`node${n}`), at: nanos(at), provision_id: entry.provision_id });
    } else if (op < 28) {
      const n = a % 3;
      const entry = nodes.get(n);
      const indices = entry ? [...entry.free].slice(0, 1 + (b % 4)) : [0];
      if (b % 17 === 0) indices.push(b % 5);
      for (const index of indices) entry?.free.delete(index);
      const instances = [`ins${serial}a`, `ins${serial}b`].slice(0, 1 + (b % 2));
      const split = b % 3 === 0 ? 1 : Math.ceil(indices.length / instances.length);
      const owned = instances.map((instance, i) => ({
        instance: asId<"instance">(instance),
        gpu_indices: indices.slice(i * split, (i + 1) * split),
      }));
      groups.push({ group: `grp${serial}`, node: n, gpus: indices, instances });
      records.push({
        type: "group_started",
        ...at_t,
        group: asId<"group">(`grp${serial}`),
        node: asId<"node">(`node${n}`),
        gpu_indices: indices,
        instances: owned,
      });
      for (const { instance } of owned) if (b % 5 > 0) records.push({ type: "instance_state", ...at_t, instance, state: "ready" });
    } else if (op < 31) {
      const group = pick(groups, a);
      if (group) {
        groups = groups.filter((other) => other !== group);
        for (const index of group.gpus) nodes.get(group.node)?.free.add(index);
      }
      records.push({ type: "group_ended", ...at_t, group: asId<"group">(group?.group ?? "grp_unknown"), reason: "stopped" });
    } else if (op < 38) {
      const instance = pick(pick(groups, a)?.instances ?? [], b) ?? "ins_unknown";
      records.push({ type: "instance_state", ...at_t, instance: asId<"instance">(instance), state: pick(STATES, b) ?? "ready" });
    } else if (op < 46) {
      calls.push(`call${serial}`);
      records.push({ type: "call_accepted", ...at_t, call: asId<"call">(`call${serial}`), tags: tags(`ten_${a % 3}`) });
    } else if (op < 64) {
      const call = pick(calls, a) ?? "call_unknown";
      const instance = pick(pick(groups, b)?.instances ?? [], a) ?? "ins_unknown";
      const leg = `${call}.${serial}.x`;
      legs.push({ leg, call });
      records.push({
        type: "leg_joined",
        ...at_t,
        leg: asId<"leg">(leg),
        call: asId<"call">(call),
        instance: asId<"instance">(instance),
        role: pick(ROLES, a) ?? "whole",
        weight: 1 + ((a * b) % 9_973),
      });
    } else if (op < 69) {
      records.push({ type: "leg_holding", ...at_t, leg: asId<"leg">(pick(legs, a)?.leg ?? "leg_unknown"), weight: 1 + (b % 50) });
    } else if (op < 78) {
      const leg = pick(legs, a);
      legs = legs.filter((other) => other !== leg);
      records.push({ type: "leg_left", ...at_t, leg: asId<"leg">(leg?.leg ?? "leg_unknown") });
    } else if (op < 83) {
      const call = pick(calls, a);
      calls = calls.filter((other) => other !== call);
      records.push({
        type: "call_ended",
        ...at_t,
        call: asId<"call">(call ?? "call_unknown"),
        outcome: pick(OUTCOMES, b) ?? "done",
        code: null,
        tokens: { prompt: a, cached: a % 7 === 0 ? a + 1 : 0, completion: b },
      });
    } else if (op < 92) {
      records.push({ type: "cut", ...at_t });
    } else if (op < 96) {
      records.push({ type: "alive", ...at_t });
    } else {
      groups = [];
      legs = [];
      for (const entry of nodes.values()) for (let i = 0; i < entry.gpus; i++) entry.free.add(i);
      records.push({ type: "boot", ...at_t, cell: CELL, epoch: 1 + serial, boot_id: `boot${serial}` });
    }
  }
  records.push({ type: "cut", t: nanos(t + 1n) });
  return records;
}
