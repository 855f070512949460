/** Conversations for when no trace is at hand: each call's prompt is the one before it, its answer, and a new question. Open loop. */
import { exponential, seeded } from "../../gpu-gateway/simulator/traces/random.ts";
import { OpenTrace, type TraceCall } from "../../gpu-gateway/simulator/traces/trace.ts";

const BLOCK_TOKENS = 512;
const CONVERSATIONS = 120;
const TURNS = 5;
const QUESTION_TOKENS = 4_000;
const ANSWER_TOKENS = 100;
const THOUGHT_S = 30;
const PER_SECOND = 0.75;

export function conversations(seed: number): OpenTrace {
  const random = seeded(seed);
  const calls: TraceCall[] = [];
  let begun_us = 0;
  let block = 0;
  for (let n = 0; n < CONVERSATIONS; n++) {
    begun_us += (exponential(random) / PER_SECOND) * 1e6;
    let at_us = begun_us;
    let prompt_tokens = 0;
    const blocks: number[] = [];
    for (let turn = 0; turn < TURNS; turn++) {
      prompt_tokens += Math.round(QUESTION_TOKENS * (0.5 + random.next()));
      while (blocks.length < Math.floor(prompt_tokens / BLOCK_TOKENS)) blocks.push(block++);
      calls.push({
        at_us: Math.round(at_us),
        prompt_tokens,
        output_tokens: ANSWER_TOKENS,
        tenant: "trace",
        program: null,
        agent: null,
        blocks: [...blocks],
      });
      prompt_tokens += ANSWER_TOKENS;
      at_us += exponential(random) * THOUGHT_S * 1e6;
    }
  }
  const trace = new OpenTrace(BLOCK_TOKENS);
  for (const call of calls.toSorted((a, b) => a.at_us - b.at_us)) trace.push(call);
  return trace;
}
