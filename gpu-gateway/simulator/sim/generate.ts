/**
 * A scenario from a seed: a small cluster with tight limits, policies from the catalogue, tenants with sessions, and faults. Small, so that
 * queues, leases and memory are met in every run; varied, so that every fault and every policy is.
 */
import { type Micros, micros, microsFromMs } from "../../../schema/core/time.ts";
import { POLICY_NAMES } from "../../policy/catalogue.ts";
import type { Role } from "../../policy/vocabulary.ts";
import { type Fault, FAULT_KINDS, type FaultKind } from "../faults/fault.ts";
import type { ClusterSpec, PoolSpec } from "../types.ts";
import { type PolicyChoice, TTFT_OBJECTIVES_MS } from "./policies.ts";
import { Random } from "./random.ts";
import { type CallPlan, type Scenario, SCENARIO_FORMAT, type SessionPlan } from "./scenario.ts";

const MODEL = "llama-3-8b";
/** After the last fault: longer than a pool needs to come back after its launches failed, and than its queue needs to empty. */
const LIVENESS = microsFromMs(400_000);
/** Far longer than both phases: a call that is stuck shows itself as stuck, and is not tidied away by its deadline. */
const PATIENT = microsFromMs(900_000);

export function scenarioOf(seed: number): Scenario {
  const random = new Random(seed, "scenario");
  const cluster = clusterOf(random.fork("cluster"));
  const heals_at = microsFromMs(random.between(50, 150) * 1_000);
  const sessions = sessionsOf(random.fork("sessions"), cluster, heals_at);
  const tenants = [...new Set(sessions.map(({ tenant }) => tenant))];
  const money = random.fork("money");
  const limits = random.fork("limits");
  return {
    format: SCENARIO_FORMAT,
    seed,
    cluster,
    policies: policiesFrom(random.fork("policies")),
    limits: {
      failures_max: limits.between(2, 4),
      deferred_pulls_max: limits.between(1, 4),
      kv_lease_margin: microsFromMs(limits.pick([1_000, 2_000, 5_000])),
      launch_bound: microsFromMs(limits.pick([120_000, 600_000])),
      stop_bound: microsFromMs(1_000_000),
      launch_backoff_max: microsFromMs(limits.pick([4_000, 30_000])),
    },
    queued_per_model_max: limits.pick([2, 6, 20, 60]),
    shrinks: limits.chance(40),
    budgets: Object.fromEntries(tenants.map((tenant) => [tenant, money.chance(25) ? money.between(1, 4) : 1_000])),
    sessions,
    faults: faultsOf(random.fork("faults"), heals_at),
    store_delay: micros(random.pick([2_000, 20_000, 100_000])),
    journal_delay: micros(random.pick([500, 2_000, 10_000])),
    shipment_rows_max: random.pick([5, 50, 500]),
    heals_at,
    liveness: LIVENESS,
  };
}

function clusterOf(random: Random): ClusterSpec {
  const shape = random.below(4);
  const roles: { readonly role: Role; readonly instances: number }[] =
    shape === 0
      ? [{ role: "both", instances: random.between(1, 3) }]
      : [
          { role: "prefill", instances: random.between(1, 2) },
          { role: "decode", instances: random.between(1, 3) },
          ...(shape === 3 ? [{ role: "both" as const, instances: 1 }] : []),
        ];
  const shared: Omit<PoolSpec, "role" | "instances"> = {
    model: MODEL,
    tp: 1,
    pp: 1,
    slots: random.between(1, 5),
    step_tokens: random.pick([256, 512, 2_048]),
    prefill_tokens_max: random.pick([512, 1_024, 4_096]),
    kv_tokens: random.pick([2_048, 4_096, 12_288]),
    context_tokens: 2_048,
    kv_lease: microsFromMs(random.pick([8_000, 15_000, 30_000])),
  };
  const pools = roles.map(({ role, instances }) => ({ ...shared, role, instances }));
  const gpus = roles.reduce((sum, { instances }) => sum + instances, 0);
  const gpus_per_node = random.pick([1, 2, 4]);
  return {
    name: "sim",
    // Sometimes one GPU more than is used: a pool may come back elsewhere, and what is in no group is metered too.
    nodes: Math.ceil(gpus / gpus_per_node) + (random.chance(30) ? 1 : 0),
    gpus_per_node,
    pools,
    all_reduce: "nccl",
    link_delay: micros(random.pick([100, 500, 5_000])),
  };
}

function policiesFrom(random: Random): PolicyChoice {
  return {
    admission: random.pick(POLICY_NAMES.admission),
    ordering: random.pick(POLICY_NAMES.ordering),
    routing: random.pick(POLICY_NAMES.routing),
    cache: random.pick(POLICY_NAMES.cache),
    seed: random.below(1_000),
    ttft_ms_max: random.pick(TTFT_OBJECTIVES_MS),
  };
}

/** Who comes: people who think, programs that hardly do, or a crowd that keeps queues full, so that tenants compete. */
function sessionsOf(random: Random, { pools }: ClusterSpec, heals_at: Micros): SessionPlan[] {
  const crowd = random.chance(25);
  const tenants = crowd ? random.between(2, 3) : random.between(1, 4);
  const kv = Math.min(...pools.map(({ kv_tokens, context_tokens }) => Math.min(kv_tokens ?? context_tokens, context_tokens)));
  const habits: Habits = {
    kv,
    thinks_ms: crowd ? 20 : random.pick([200, 1_500, 6_000]),
    splittable: random.pick([100, 100, 85]),
    asked: crowd ? [40] : [10, 40, 150, 600],
    answers: crowd ? [60] : [1, 16, 60, 200],
  };
  const late = micros(random.pick([0, 0, 0.15, 0.4]) * heals_at);
  const sessions = crowd ? random.between(30, 60) : random.pick([random.between(3, 12), random.between(10, 40), random.between(30, 60)]);
  return Array.from({ length: sessions }, (_, n): SessionPlan => {
    const own = random.fork(`session ${n}`);
    const tenant = own.below(tenants);
    // One tenant has all to itself for a while; then the others come.
    const came = tenant === 0 ? micros(0) : late;
    return {
      name: `ses_${String(n).padStart(2, "0")}`,
      tenant: `t${tenant}`,
      starts: crowd ? came : micros(own.chance(40) ? 0 : own.below(heals_at * 0.6)),
      reconnect: microsFromMs(own.pick([20, 300, 3_000])),
      client_delay: microsFromMs(own.pick([1, 20, 200])),
      calls: callsOf(own, crowd ? own.between(8, 40) : own.between(2, 16), habits),
    };
  });
}

type Habits = {
  readonly kv: number;
  readonly thinks_ms: number;
  readonly splittable: number;
  readonly asked: readonly [number, ...number[]];
  readonly answers: readonly [number, ...number[]];
};

function callsOf(random: Random, calls: number, { kv, thinks_ms, splittable, asked, answers }: Habits): CallPlan[] {
  const instructions = random.below(3);
  const instruction_tokens = 16 * random.pick(asked.length === 1 ? [4] : [0, 8, 20]);
  let said = instruction_tokens;
  return Array.from({ length: calls }, (_, n): CallPlan => {
    const max_tokens = random.pick(answers);
    const new_tokens = random.pick(asked);
    // What does not fit any more starts over: a session is not longer than a model's context. Nor does a crowd tell long stories.
    if (said + new_tokens + max_tokens > kv - 16 || asked.length === 1) said = instruction_tokens;
    const prompt_tokens = said + new_tokens;
    const output_tokens = random.chance(30) ? max_tokens : random.between(1, max_tokens);
    said = prompt_tokens + output_tokens;
    return {
      turn: n === 0 || random.chance(40),
      pause: microsFromMs(random.between(1, thinks_ms)),
      instructions,
      instruction_tokens,
      prompt_tokens,
      output_tokens,
      max_tokens,
      splittable: random.chance(splittable),
      deadline: microsFromMs(random.chance(20) ? random.between(500, 20_000) : PATIENT / 1_000),
      cancel_after: random.chance(8) ? microsFromMs(random.between(0, 8_000)) : null,
      resend_after: random.chance(8) ? microsFromMs(random.between(0, 3_000)) : null,
    };
  });
}

function faultsOf(random: Random, heals_at: Micros): Fault[] {
  // A few kinds a scenario, and more of them: one kind is then met at bad moments, and by others.
  const kinds = FAULT_KINDS.filter(() => random.chance(45));
  const first = kinds[0] ?? random.pick(FAULT_KINDS);
  const drawn: readonly [FaultKind, ...FaultKind[]] = [first, ...kinds.slice(1)];
  const faults = Array.from({ length: random.between(2, 20) }, () => faultOf(random, random.pick(drawn), heals_at));
  // One that always finds somebody to happen to: a run in which nothing fired shows nothing.
  faults.push(faultOf(random, random.pick(["instance_death", "instance_slow", "instance_hangs", "partition"]), heals_at));
  return faults.sort((a, b) => a.at - b.at);
}

function faultOf(random: Random, kind: FaultKind, heals_at: Micros): Fault {
  const at = micros(random.below(heals_at - 1_000_000) + 500_000);
  const which = random.below(64);
  const lasts = micros(Math.min(microsFromMs(random.pick([200, 2_000, 12_000, 30_000])), heals_at - at));
  switch (kind) {
    case "instance_death":
    case "link_cut":
    case "session_evicted":
    case "client_cut":
      return { kind, at, which };
    case "instance_slow":
      return { kind, at, which, factor: random.pick([2, 5, 20]), lasts };
    case "instance_hangs":
    case "partition":
      return { kind, at, which, lasts };
    case "transfer_lost":
      return { kind, at, lasts };
    case "transfer_late":
      return { kind, at, by: microsFromMs(random.pick([100, 4_000, 40_000])), lasts };
    case "transfer_duplicated":
      return { kind, at, after: microsFromMs(random.pick([1, 500, 9_000])), lasts };
    case "gateway_restart":
      return { kind, at, down: micros(Math.min(microsFromMs(random.pick([50, 1_000, 8_000])), heals_at - at)) };
    case "clock_step":
      return { kind, at, by: microsFromMs(random.pick([-300_000, -1_500, 40, 300_000])) };
    case "ledger_outage":
      return { kind, at, stored: random.chance(50), lasts };
  }
}
