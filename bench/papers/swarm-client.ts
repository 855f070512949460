/**
 * The seeds' swarm (§5) as clients: a question goes to a router, from there to some bots at once, and what they say to an aggregator; each is one
 * call of one model. Questions come by themselves (Poisson), the calls of one follow each other.
 */
import type { CallId } from "../../schema/core/ids.ts";
import { micros } from "../../schema/core/time.ts";
import { type CallShape, simCall } from "../../gpu-gateway/simulator/traces/calls.ts";
import { chained, saltOf } from "../../gpu-gateway/simulator/traces/prefix-chain.ts";
import { exponential, seeded } from "../../gpu-gateway/simulator/traces/random.ts";
import type { Arrival, Clients } from "../../gpu-gateway/simulator/types.ts";

/** The templates' and texts' lengths, counted as 4 characters a token; the router's limit is the seeds' own. */
export const SWARM = {
  bots: 50,
  /** Assumption: one to three of them are asked. */
  asked: [1, 3],
  router_template: 32,
  router_answer: 5,
  bot_template: 16,
  question: 24,
  aggregator_template: 16,
} as const;

export type SwarmOptions = {
  readonly questions: number;
  /** Infinity: all at once. */
  readonly per_second: number;
  readonly answer_tokens: number;
  /** `swarm`: router, bots, aggregator. `bot`: one bot is asked, and nobody else. */
  readonly what: "swarm" | "bot";
  readonly seed: number;
};
export type Question = { readonly asked_at: number; ended_at: number | null };
export type Swarm = { readonly clients: Clients; readonly questions: readonly Question[] };

const BLOCK_TOKENS = 16;
const TEMPLATES = saltOf("templates");

type Open = { readonly question: Question; readonly bots: readonly number[]; stage: "router" | "bots" | "aggregator"; left: number };

export function swarm({ questions: count, per_second, answer_tokens, what, seed }: SwarmOptions, shape: CallShape): Swarm {
  const random = seeded(seed);
  const questions: Question[] = [];
  const open = new Map<string, Open>();
  let at_us = 0;

  /** `template`: which one it begins with; its full blocks are the same for all who use it. */
  function call(id: string, at: number, template: number, template_tokens: number, prompt_tokens: number, output_tokens: number): Arrival {
    const shared = Array.from({ length: Math.floor(template_tokens / BLOCK_TOKENS) }, (_, block) => template * 100 + block);
    const parts = { id, at, tenant: "swarm", program: programOf(id), agent: `template ${template}`, prompt_tokens, output_tokens };
    return { at: micros(at), sim: simCall({ ...parts, block_tokens: BLOCK_TOKENS, blocks: chained(TEMPLATES, [], shared) }, shape) };
  }

  return {
    questions,
    clients: {
      first() {
        if (questions.length >= count) return null;
        const nth = questions.length;
        at_us += Math.round((exponential(random) / per_second) * 1e6);
        const question: Question = { asked_at: at_us, ended_at: null };
        questions.push(question);
        const [least, most] = SWARM.asked;
        const asked = least + Math.floor(random.next() * (most - least + 1));
        const bots = Array.from({ length: asked }, () => 1 + Math.floor(random.next() * SWARM.bots));
        const program = nth.toString().padStart(9, "0");
        const ask = SWARM.bot_template + SWARM.question;
        open.set(program, { question, bots, stage: what === "bot" ? "aggregator" : "router", left: 1 });
        if (what === "bot") return call(`${program}/0`, at_us, bots[0] ?? 1, SWARM.bot_template, ask, answer_tokens);
        const { router_template, router_answer, question: length } = SWARM;
        return call(`${program}/0`, at_us, 0, router_template, router_template + length, router_answer);
      },
      ended({ call_id }, outcome, at) {
        const program = programOf(call_id);
        const entry = open.get(program);
        if (entry === undefined) return [];
        // A question of which a part is not answered is not answered.
        if (outcome.type !== "done") open.delete(program);
        if (outcome.type !== "done" || --entry.left > 0) return [];
        if (entry.stage === "router") {
          entry.stage = "bots";
          entry.left = entry.bots.length;
          const prompt = SWARM.bot_template + SWARM.question;
          return entry.bots.map((bot, n) => call(`${program}/1.${n}`, at, bot, SWARM.bot_template, prompt, answer_tokens));
        }
        if (entry.stage === "bots") {
          entry.stage = "aggregator";
          entry.left = 1;
          const prompt = SWARM.aggregator_template + entry.bots.length * answer_tokens;
          return [call(`${program}/2`, at, SWARM.bots + 1, SWARM.aggregator_template, prompt, answer_tokens)];
        }
        entry.question.ended_at = at;
        open.delete(program);
        return [];
      },
    },
  };
}

const programOf = (call_id: string | CallId): string => call_id.slice(0, 9);
