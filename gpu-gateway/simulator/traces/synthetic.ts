/** Generated workloads, by seed: an open loop of independent calls, and agents in a closed loop. */
import type { SessionSource } from "./closed-loop.ts";
import { draw, drawPair, type Lengths, type Workload } from "./lengths.ts";
import { exponential, type Random, seeded } from "./random.ts";
import { OpenTrace, type ScriptCall, type Session, type Step } from "./trace.ts";

export type PoissonOptions = { readonly workload: Workload; readonly per_second: number; readonly calls: number; readonly seed: number };

/** Arrivals and lengths are drawn apart: the same calls at any rate. */
export function poisson(options: PoissonOptions): OpenTrace {
  const random = seeded(options.seed);
  const [gaps, prompts, outputs] = [random.fork(1), random.fork(2), random.fork(3)];
  const trace = new OpenTrace(0);
  let at_us = 0;
  for (let i = 0; i < options.calls; i++) {
    at_us += Math.round((exponential(gaps) / options.per_second) * 1e6);
    const { prompt, output } = drawPair(options.workload, prompts, outputs);
    trace.push({
      at_us,
      prompt_tokens: prompt,
      output_tokens: output,
      tenant: "trace",
      program: null,
      agent: null,
      blocks: [],
    });
  }
  return trace;
}

export type AgentsOptions = {
  readonly agents: number;
  readonly turns: number;
  /** The same for all agents: instructions and tools. */
  readonly system_tokens: number;
  /** What a tool's result or a person's message adds before each call. */
  readonly added: Lengths;
  readonly answer: Lengths;
  /** Mean time of a tool, exponential. */
  readonly tool_ms: number;
  readonly seed: number;
};
const AGENT_BLOCK_TOKENS = 16;
/** Above any content number of the shared prompt, and apart for each agent: blocks of its own. */
const OWN_BLOCKS = 1_000_000;

/** Each turn's prompt is the one before it, its answer, and what the tool gave. */
export function agents(options: AgentsOptions): SessionSource {
  const random = seeded(options.seed);
  return {
    block_tokens: AGENT_BLOCK_TOKENS,
    count: options.agents,
    session: (nth): Session => ({
      id: `agent_${nth.toString().padStart(5, "0")}`,
      scope: "agents",
      script: turnsOf(options, nth, random.fork(nth)),
    }),
  };
}

function turnsOf(options: AgentsOptions, nth: number, random: Random): Step[] {
  const steps: Step[] = [];
  let next_block = OWN_BLOCKS * (nth + 1);
  let prompt_tokens = options.system_tokens;
  let known = 0;
  for (let turn = 0; turn < options.turns; turn++) {
    prompt_tokens += Math.max(1, draw(options.added, random));
    const output_tokens = Math.max(1, draw(options.answer, random));
    const tool_us = turn === 0 ? 0 : Math.round(exponential(random) * options.tool_ms * 1_000);
    const full = Math.floor(prompt_tokens / AGENT_BLOCK_TOKENS);
    const shared = Math.floor(options.system_tokens / AGENT_BLOCK_TOKENS);
    const fresh = Array.from({ length: full - known }, (_, i) => (known + i < shared ? known + i : next_block++));
    const call: ScriptCall = { prompt_tokens, output_tokens, agent: "agent", keep: known, fresh };
    steps.push({ forks: [], gap_us: tool_us, call });
    known = full;
    prompt_tokens += output_tokens;
  }
  return steps;
}
