/**
 * The seeds' swarm of 50 bots (§5) on one node of 4 A100s with Llama-3-8B: their 172 ms at the 95th percentile and 420 requests a second, as a
 * frontier over the length of an answer. `node bench/papers/swarm-bots.ts [--json FILE] [--smoke]`
 */
import { micros, microsFromMs } from "../../schema/core/time.ts";
import { baselinePolicies } from "../../gpu-gateway/policy/defaults.ts";
import type { SchedulerLimits } from "../../gpu-gateway/policy/scheduler/limits.ts";
import type { Role } from "../../gpu-gateway/policy/vocabulary.ts";
import { runCluster } from "../../gpu-gateway/simulator/cluster.ts";
import { highestLoad } from "../../gpu-gateway/simulator/planner/search.ts";
import type { ClusterSpec, PoolSpec } from "../../gpu-gateway/simulator/types.ts";
import { percentile } from "../lib/figures.ts";
import { optionsOf, progress, Sheet } from "./sheet.ts";
import { swarm, SWARM, type SwarmOptions } from "./swarm-client.ts";

const { json, smoke } = optionsOf();
const MODEL = "llama-3-8b";
const CONTEXT_TOKENS = 8_192;
const THEIRS = { p95_ms: 172, per_s: 420 };
const ANSWERS = smoke ? [4, 150] : [4, 8, 16, 32, 64, 150];
const QUESTIONS = smoke ? 200 : 3_000;
const SEED = 1;
const TOLERANCE = 0.05;
/** Questions so rare that they hardly meet. */
const ALONE_PER_S = 0.5;
const CALLS_PER_QUESTION = 2 + (SWARM.asked[0] + SWARM.asked[1]) / 2;
const QUEUED_MAX = 100_000;
const PATIENCE = microsFromMs(600_000);

type Layout = { readonly name: string; readonly pools: readonly PoolSpec[]; readonly limits?: Partial<SchedulerLimits> };
const pool = (role: Role, instances: number, tp: number, batching: "chunked" | "prefill_first", slots = 256): PoolSpec => ({
  model: MODEL,
  role,
  instances,
  tp,
  pp: 1,
  slots,
  step_tokens: 2_048,
  prefill_tokens_max: 16_384,
  kv_tokens: null,
  context_tokens: CONTEXT_TOKENS,
  kv_lease: microsFromMs(30_000),
  batching,
});
const APART = [pool("prefill", 2, 1, "chunked"), pool("decode", 2, 1, "chunked")];
const LAYOUTS: readonly Layout[] = [
  { name: "4 × both, prompts first (FCFS colocated)", pools: [pool("both", 4, 1, "prefill_first")] },
  { name: "4 × both, chunks", pools: [pool("both", 4, 1, "chunked")] },
  { name: "1 × both on TP 4, chunks", pools: [pool("both", 1, 4, "chunked", 1_024)] },
  { name: "2 prefill + 2 decode", pools: APART },
  { name: "2 prefill + 2 decode, 256 deferred pulls for 16", pools: APART, limits: { deferred_pulls_max: 256 } },
];

const sheet = new Sheet();
for (const layout of smoke ? LAYOUTS.slice(1, 2) : LAYOUTS) for (const answer_tokens of ANSWERS) frontier(layout, answer_tokens);
progress("");
sheet.finish(
  {
    bench: "swarm-bots",
    title: "The seeds' 50 bots on 4 A100s with Llama-3-8B: 172 ms at p95 and 420 requests a second, by length of answer",
    command: `node bench/papers/swarm-bots.ts${smoke ? " --smoke" : ""}`,
    samples: `${QUESTIONS} questions a run, Poisson, bisected to 5 %; a question is a router call of 5 tokens, 1 to 3 of 50 bots at once with an answer each, and an aggregator with an answer as long: 4 calls on average; prompts of the seeds' templates, which caches share; the most: of ${QUESTIONS} at once; one call: a bot's alone, no router, no aggregator; no search goes beyond 1,024/s`,
    not_measured: [
      "HTTP between their processes, tokenizing, Ray: the calls' own time and 0.25 ms a hop are all there is",
      "system prompts of real bots, which are longer than the seeds' one line",
    ],
  },
  json,
);

function frontier({ name, pools, limits }: Layout, answer_tokens: number): void {
  const row = `${name}, ${answer_tokens} tokens`;
  const cluster: ClusterSpec = { name, nodes: 1, gpus_per_node: 4, pools, all_reduce: "nccl", link_delay: micros(250) };
  const p95 = (what: "swarm" | "bot", per_second: number): number => {
    progress(`${row}, ${per_second.toFixed(1)}/s`);
    return percentile(answered(cluster, limits, { questions: QUESTIONS, per_second, answer_tokens, what, seed: SEED }), 95);
  };
  const within = (what: "swarm" | "bot"): number => {
    if (p95(what, ALONE_PER_S) > THEIRS.p95_ms) return 0;
    const search = { tolerance: TOLERANCE, level: (one: number) => one, stopped: () => false };
    return highestLoad((per_second) => p95(what, per_second) <= THEIRS.p95_ms, 16, search).holds ?? 0;
  };
  sheet.note(row, "p95, alone", p95("swarm", ALONE_PER_S), "ms");
  sheet.note(row, "questions/s within 172 ms", within("swarm"), "/s");
  const all = answered(cluster, limits, {
    questions: QUESTIONS,
    per_second: Number.POSITIVE_INFINITY,
    answer_tokens,
    what: "swarm",
    seed: SEED,
  });
  sheet.note(row, "most questions/s", (1e3 * all.length) / Math.max(...all), "/s");
  sheet.note(row, "p95 at 420 calls/s", p95("swarm", THEIRS.per_s / CALLS_PER_QUESTION), "ms");
  sheet.note(row, "one call: p95 at 420/s", p95("bot", THEIRS.per_s), "ms");
  sheet.note(row, "one call: calls/s within 172 ms", within("bot"), "/s");
}

/** Milliseconds of each question; one that is not answered takes for ever. */
function answered(cluster: ClusterSpec, limits: Layout["limits"], options: SwarmOptions): readonly number[] {
  const shape = { model: MODEL, context_tokens: CONTEXT_TOKENS, patience: PATIENCE };
  const { clients, questions } = swarm(options, shape);
  const targets = cluster.pools.map(({ model, role, instances }) => ({ model, role, groups: instances }));
  const policies = baselinePolicies({ scope: "swarm", targets, queued_per_model_max: QUEUED_MAX, ...(limits ? { limits } : {}) });
  runCluster({ cluster, policies, clients, seed: SEED });
  return questions.map(({ asked_at, ended_at }) => (ended_at === null ? Number.POSITIVE_INFINITY : (ended_at - asked_at) / 1e3));
}
