/**
 * The owner's plan for 10 nodes, as it stands in the seeds (§4.3, §4.4): 3 prefill and 7 decode nodes of 4 A100s, Llama-3-70B at TP 4, 100 agents
 * with tools. What it expects, what the simulator says, and the bound where physics says otherwise; then how many agents and nodes its
 * throughput would take. `node bench/papers/seeds-cluster.ts [--json FILE.json] [--smoke]`: FILE.json, FILE-load.json.
 */
import { A100 } from "../../gpu-gateway/engine-model/a100.ts";
import { stepUs } from "../../gpu-gateway/engine-model/profile.ts";
import { A100_FABRIC } from "../../gpu-gateway/engine-model/transfer.ts";
import { percentile } from "../lib/figures.ts";
import { AGENT, type AgentFigures, GPUS_PER_NODE, PROFILE, runAgents } from "./agents-cluster.ts";
import { optionsOf, partOf, progress, Sheet } from "./sheet.ts";

const { json, smoke } = optionsOf();
const SEED = 1;
const [WARM_UP_S, COUNTED_S] = smoke ? [30, 60] : [400, 400];
const PLAN = { prefill: 3, decode: 7, agents: 100, tokens_per_s: 14_000, per_node: 2_000, batch: 15, kv_transfer_ms: 30, host_bytes: 1e12 };

/** What makes 14,000 tokens/s: found by trying. */
const SCALED = [11, 22, 920] as const;

/** A step of so many answers, each with so much context. */
const stepOf = (answers: number, context: number): number =>
  stepUs(PROFILE, { tokens: answers, prefill_pairs: 0, decode_context: answers * context, decodes: answers, prefill_tokens: 0 }) / 1e3;
/** Tokens a second of one decode instance; answers beyond its memory do not run. */
const nodeRate = (answers: number, context: number): number => (1e3 * answers) / stepOf(answers, context);
const fitting = (context: number): number => Math.floor(PROFILE.kv_tokens / context);

const figures = run(PLAN.prefill, PLAN.decode, PLAN.agents);
estimates(figures);
loads(figures);

/** `host_bytes`: the plan's pool of prefixes in the host memory of its nodes. */
function run(prefill: number, decode: number, agents: number, host_bytes = PLAN.host_bytes): AgentFigures {
  progress(`${prefill} prefill, ${decode} decode, ${agents} agents`);
  return runAgents({ prefill, decode, agents, host_bytes, warm_up_s: WARM_UP_S, counted_s: COUNTED_S, routing: "conductor", seed: SEED });
}

function estimates(found: AgentFigures): void {
  const sheet = new Sheet();
  const context = Math.round(found.prompt_tokens_mean + mean(AGENT.answer_tokens) / 2);
  const weights_ms = PROFILE.weight_bytes / GPUS_PER_NODE / A100.hbm_bytes_per_us / 1e3;
  const alone_ms = stepOf(1, context);
  const p = (values: readonly number[], q: number): string => short(percentile(values, q));
  const row = (what: string, cells: readonly [estimate: string, simulated: string, bound: string, verdict: string]): void => {
    for (const [i, column] of ["their estimate", "simulated", "bound", "verdict"].entries()) sheet.say(what, column, cells[i] ?? "");
  };
  row("tokens/s of all 7 decode nodes", [
    "about 14,000",
    short(found.tokens_per_s),
    `${short((1e3 * PLAN.agents) / alone_ms)}: ${PLAN.agents} agents, each at most one token in ${short(alone_ms)} ms, the step of a batch of one`,
    `no: ${short(PLAN.tokens_per_s / found.tokens_per_s)} times too high; more agents, not faster nodes, would bring more`,
  ]);
  const batch = answersFor(PLAN.per_node, context);
  row("tokens/s of one decode node", [
    "2,000",
    short(found.tokens_per_s / PLAN.decode),
    `${short(nodeRate(PLAN.batch, context))} with their batch of 15 at ${short(context)} tokens of context`,
    batch === null
      ? `no: at this context memory holds ${fitting(context)} answers, which make ${short(nodeRate(fitting(context), context))}; 2,000 take contexts below ${short(contextFor(PLAN.per_node))} tokens`
      : `no: takes a batch of ${batch}`,
  ]);
  row("time a token", [
    "10–20 ms",
    `${p(found.token_ms, 50)} ms (p95 ${p(found.token_ms, 95)})`,
    `${short(weights_ms)} ms to read 141 GB of weights from 4 GPUs' memory; with host, all-reduces and KV ${short(stepOf(PLAN.batch, context))} ms`,
    "no: below 17 ms is beyond the memory of 4 GPUs, whatever the software",
  ]);
  row("decode of an agent's turn", [
    "2–5 s",
    `${p(found.decode_s, 50)} s (p95 ${p(found.decode_s, 95)})`,
    `${short((mean(AGENT.answer_tokens) * weights_ms) / 1e3)} s for 350 tokens by weights alone`,
    `no: even ${AGENT.answer_tokens[0]} tokens take ${short((AGENT.answer_tokens[0] * alone_ms) / 1e3)} s at the step of a batch of one`,
  ]);
  const longest = ((PLAN.kv_transfer_ms * 1e3 - A100_FABRIC.handshake_us) * A100_FABRIC.nic_bytes_per_us) / PROFILE.kv_bytes_per_token;
  const under = found.transfer_ms.filter((ms) => ms < PLAN.kv_transfer_ms).length / found.transfer_ms.length;
  row("KV from prefill to decode", [
    "below 30 ms",
    `p50 ${p(found.transfer_ms, 50)} ms, p99 ${p(found.transfer_ms, 99)} ms; ${short(100 * under)} % below 30 ms`,
    `${short(longest)} tokens in 30 ms: ${PROFILE.kv_bytes_per_token / 1e3} kB a token over a NIC of 25 GB/s, alone, and 1 ms of handshake`,
    "only up to that context; until decode begins, a step of waiting included",
  ]);
  row("agents at once", [
    "about 100",
    `${short(found.answering)} answering, the rest in prefill, transfer or tools`,
    `${PLAN.decode * fitting(context)} answers of this context fit into decode memory`,
    "yes",
  ]);
  sheet.finish(
    {
      bench: "seeds-cluster",
      title: "The seeds' 10-node plan: their estimates, simulated, and the bounds",
      command: `node bench/papers/seeds-cluster.ts${smoke ? " --smoke" : ""}`,
      samples: `${PLAN.agents} agents over ${COUNTED_S} s after ${WARM_UP_S} s; answers of 200–500 tokens and tools of 50–500 ms, evenly, as planned; assumed: ${AGENT.system_tokens} tokens of instructions shared by all, tool results of ${AGENT.result_tokens} tokens (median), ${AGENT.turns} turns a task: prompts of ${short(found.prompt_tokens_mean)} tokens on average; routed by the conductor, prefixes in GPU memory and 1 TB of the nodes' host memory, as planned`,
      not_measured: [
        "what reading their pool in host memory costs (nothing here), Redis, checkpoints; blocks of answers are not found in a cache again, so that each turn computes the last answer and the tool's result",
        "Slingshot's own latency and contention beyond one NIC a node",
      ],
    },
    json,
  );
}

/** What more agents bring, and where it ends. */
function loads(planned: AgentFigures): void {
  const sheet = new Sheet();
  const note = (row: string, found: AgentFigures): void => {
    sheet.note(row, "tokens/s", found.tokens_per_s);
    sheet.note(row, "a token, p50", percentile(found.token_ms, 50), "ms");
    sheet.note(row, "decode of a turn, p50", percentile(found.decode_s, 50), "s");
    sheet.note(row, "TTFT p50", percentile(found.ttft_s, 50), "s");
    sheet.note(row, "answering at once", found.answering);
    sheet.note(row, "prefill busy", 100 * found.prefill_busy, "%");
    sheet.note(row, "cached", 100 * found.cached_share, "%");
    sheet.note(row, "failed", found.failed, "calls");
  };
  note("3 + 7 nodes, 100 agents", planned);
  if (smoke) note("3 + 7 nodes, 30 agents", run(3, 7, 30));
  else {
    for (const agents of [200, 300]) note(`3 + 7 nodes, ${agents} agents`, run(3, 7, agents));
    note("3 + 7 nodes, 200 agents, no pool in host memory", run(3, 7, 200, 0));
    note("4 + 6 nodes, 300 agents", run(4, 6, 300));
    // As many as its bound takes: a decode node that is full, its prefill, and a pool that grows with the nodes.
    const [prefill, decode, agents] = SCALED;
    const host_bytes = (PLAN.host_bytes * (prefill + decode)) / (PLAN.prefill + PLAN.decode);
    note(`${prefill} + ${decode} nodes, ${agents} agents`, run(prefill, decode, agents, host_bytes));
  }
  progress("");
  sheet.finish(
    {
      bench: "seeds-cluster-load",
      title: "The seeds' plan under more agents, other splits, and as many nodes as 14,000 tokens/s take",
      command: `node bench/papers/seeds-cluster.ts${smoke ? " --smoke" : ""}`,
      samples: `prefill + decode nodes of 4 A100s; agents and routing as above, ${COUNTED_S} s after ${WARM_UP_S} s; the pool grows with the nodes`,
      not_measured: [
        "instances that do both; the time to read host memory, which is taken as none",
        "splits and numbers of nodes other than these",
      ],
    },
    partOf(json, "load"),
  );
}

/** The least batch that makes so many tokens a second; null: not even all that fit. */
function answersFor(per_second: number, context: number): number | null {
  for (let answers = 1; answers <= fitting(context); answers++) if (nodeRate(answers, context) >= per_second) return answers;
  return null;
}

/** The longest context at which the answers that fit make so many tokens a second. */
function contextFor(per_second: number): number {
  let longest = 0;
  for (let context = 256; context <= 32_768; context += 64) if (answersFor(per_second, context) !== null) longest = context;
  return longest;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
function short(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(value >= 10 ? 0 : 1);
}
