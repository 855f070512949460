/** The owner's plan as a cluster: P prefill and D decode nodes of 4 A100s, Llama-3-70B at TP 4, and agents that work on it in a closed loop. */
import { micros, microsFromMs } from "../../schema/core/time.ts";
import { mustProfile } from "../../gpu-gateway/engine-model/profile.ts";
import { choosePolicies } from "../../gpu-gateway/policy/catalogue.ts";
import type { Role } from "../../gpu-gateway/policy/vocabulary.ts";
import { runCluster } from "../../gpu-gateway/simulator/cluster.ts";
import { closedLoop, type SessionSource } from "../../gpu-gateway/simulator/traces/closed-loop.ts";
import { seeded } from "../../gpu-gateway/simulator/traces/random.ts";
import { agents } from "../../gpu-gateway/simulator/traces/synthetic.ts";
import type { Session } from "../../gpu-gateway/simulator/traces/trace.ts";
import type { CallTimes, ClusterSpec, PoolSpec, RunResult } from "../../gpu-gateway/simulator/types.ts";

const MODEL = "llama-3-70b";
export const GPUS_PER_NODE = 4;
export const PROFILE = mustProfile({ model: MODEL, tp: GPUS_PER_NODE, pp: 1, all_reduce: "nccl", gpus_per_node: GPUS_PER_NODE });
const CONTEXT_TOKENS = 32_768;

/** What the plan says of an agent (answers, tools), and what it leaves open. */
export const AGENT = {
  answer_tokens: [200, 500],
  tool_ms: [50, 500],
  /** Assumptions: instructions and tools, the same for all; what a tool gives back, median; turns of one task, then the agent begins another. */
  system_tokens: 2_000,
  result_tokens: 300,
  turns: 20,
} as const;

export type AgentRun = {
  readonly prefill: number;
  readonly decode: number;
  readonly agents: number;
  /** Host memory for prefixes, of the whole cluster; prefill instances have it in equal parts, as if it were their GPUs' own. */
  readonly host_bytes: number;
  /** After this long without counting. */
  readonly warm_up_s: number;
  readonly counted_s: number;
  readonly routing: "least-load" | "conductor";
  readonly seed: number;
};

export type AgentFigures = {
  readonly tokens_per_s: number;
  readonly turns_per_s: number;
  readonly decode_s: readonly number[];
  readonly turn_s: readonly number[];
  readonly ttft_s: readonly number[];
  readonly token_ms: readonly number[];
  readonly transfer_ms: readonly number[];
  readonly prompt_tokens_mean: number;
  readonly cached_share: number;
  /** Answers under way at once, mean. */
  readonly answering: number;
  readonly prefill_busy: number;
  readonly decode_busy: number;
  readonly failed: number;
};

export function runAgents(options: AgentRun): AgentFigures {
  const prefill_kv = PROFILE.kv_tokens + 16 * Math.floor(options.host_bytes / options.prefill / PROFILE.kv_bytes_per_token / 16);
  const cluster: ClusterSpec = {
    name: `${options.prefill} prefill and ${options.decode} decode nodes of 4 A100`,
    nodes: options.prefill + options.decode,
    gpus_per_node: GPUS_PER_NODE,
    pools: [pool("prefill", options.prefill, prefill_kv), pool("decode", options.decode, PROFILE.kv_tokens)],
    all_reduce: "nccl",
    link_delay: micros(250),
  };
  const targets = cluster.pools.map(({ model, role, instances }) => ({ model, role, groups: instances }));
  const choice = choosePolicies(
    { routing: options.routing, cache: "prefix-index" },
    { scope: "agents", targets, parameters: { transfer_us_per_token: PROFILE.kv_bytes_per_token / 25_000 } },
  );
  if (choice.type === "faults") throw new Error(choice.faults.join("; "));
  const end_s = options.warm_up_s + options.counted_s;
  const loop = { users: options.agents, stagger_us: 5e6 / options.agents, gap_us_max: 1e9, sessions: 1e6, calls_max: null };
  const shape = { model: MODEL, context_tokens: CONTEXT_TOKENS, patience: microsFromMs(3_600_000) };
  const result = runCluster({
    cluster,
    policies: choice.config,
    clients: closedLoop(tasks(options.agents, options.seed), loop, shape),
    seed: options.seed,
    until: micros(end_s * 1e6),
  });
  return figuresOf(result, options.warm_up_s * 1e6, end_s * 1e6);
}

function pool(role: Role, instances: number, kv_tokens: number): PoolSpec {
  return {
    model: MODEL,
    role,
    instances,
    tp: GPUS_PER_NODE,
    pp: 1,
    slots: 256,
    step_tokens: 8_192,
    prefill_tokens_max: 65_536,
    kv_tokens,
    context_tokens: CONTEXT_TOKENS,
    kv_lease: microsFromMs(30_000),
  };
}

/** Of one agent in a run, at most. */
const TASKS_MAX = 64;

/** As the generated agents, with the plan's tools: any time between its two bounds. Each task is of other text than all before it. */
function tasks(count: number, seed: number): SessionSource {
  const log_normal = { type: "log_normal", median: AGENT.result_tokens, sigma: 0.8, min: 1, max: 8 * AGENT.result_tokens } as const;
  const { system_tokens, turns } = AGENT;
  const answer = { type: "quantiles", tokens: AGENT.answer_tokens } as const;
  const source = agents({ agents: count * TASKS_MAX, turns, system_tokens, added: log_normal, answer, tool_ms: 0, seed });
  const [least, most] = AGENT.tool_ms;
  return {
    block_tokens: source.block_tokens,
    count: source.count,
    session(nth): Session {
      const random = seeded(seed).fork(1_000_000 + nth);
      const { script, ...rest } = source.session(nth);
      const tool_us = () => Math.round((least + (most - least) * random.next()) * 1_000);
      // The first task of an agent is as good as begun before: else all would be at the same turn.
      const kept = nth < count ? 1 + Math.floor(random.next() * turns) : turns;
      return { ...rest, script: script.slice(0, kept).map((step, turn) => ({ ...step, gap_us: turn === 0 ? 0 : tool_us() })) };
    },
  };
}

/** Of what happened between two instants; an answer counts with the part of it that lies between them. */
function figuresOf({ calls, instances, virtual }: RunResult, from: number, to: number): AgentFigures {
  const seconds = (to - from) / 1e6;
  const done = calls.filter(({ outcome, ended }) => outcome.type === "done" && ended > from);
  const within = (begin: number, end: number): number => Math.max(0, Math.min(end, to) - Math.max(begin, from));
  let [tokens, answering, prompt, cached] = [0, 0, 0, 0];
  const [decode_s, turn_s, ttft_s, token_ms, transfer_ms]: number[][] = [[], [], [], [], []];
  for (const times of done) {
    const { first_token: first, last_token: last, output_tokens } = times;
    if (first === null || last === null) continue;
    const took = last - first;
    tokens += took === 0 ? output_tokens : (output_tokens * within(first, last)) / took;
    answering += within(first, last);
    prompt += times.call.prompt_tokens;
    cached += times.cached_tokens;
    decode_s?.push(took / 1e6);
    turn_s?.push(lasted(times) / 1e6);
    ttft_s?.push((first - times.arrived) / 1e6);
    if (output_tokens > 1) token_ms?.push(took / 1e3 / (output_tokens - 1));
    if (times.transfer !== null) transfer_ms?.push(times.transfer / 1e3);
  }
  const busy = (role: Role): number => {
    const of = instances.filter((instance) => instance.role === role);
    return of.reduce((sum, instance) => sum + instance.busy / virtual, 0) / of.length;
  };
  return {
    tokens_per_s: tokens / seconds,
    turns_per_s: done.length / seconds,
    decode_s: decode_s ?? [],
    turn_s: turn_s ?? [],
    ttft_s: ttft_s ?? [],
    token_ms: token_ms ?? [],
    transfer_ms: transfer_ms ?? [],
    prompt_tokens_mean: prompt / done.length,
    cached_share: cached / prompt,
    answering: answering / (to - from),
    prefill_busy: busy("prefill"),
    decode_busy: busy("decode"),
    failed: calls.filter(({ outcome }) => outcome.type !== "done").length,
  };
}

const lasted = ({ ended, arrived }: CallTimes): number => ended - arrived;
