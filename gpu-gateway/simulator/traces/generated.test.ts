/** Generated workloads and open-loop clients: seeded, at any rate the same calls, with the lengths that are promised. */
import { expect, test } from "vitest";
import { micros } from "../../../schema/core/time.ts";
import type { Arrival, Clients } from "../types.ts";
import { closedLoop } from "./closed-loop.ts";
import { SHAREGPT } from "./lengths.ts";
import { openLoop } from "./open-loop.ts";
import { chain, chained, saltOf } from "./prefix-chain.ts";
import { agents, poisson } from "./synthetic.ts";
import { OpenTrace } from "./trace.ts";

const SHAPE = { model: "m", context_tokens: 2_048, patience: micros(1e9) };
function firsts(clients: Clients): Arrival[] {
  const all: Arrival[] = [];
  for (let next = clients.first(); next !== null; next = clients.first()) all.push(next);
  return all;
}

test("Poisson: the same seed gives the same calls; at twice the rate they are the same, twice as close", () => {
  const options = { workload: SHAREGPT, per_second: 4, calls: 4_000, seed: 7 };
  const trace = poisson(options);
  const [own, again, twice] = [openLoop(trace, 1, SHAPE), openLoop(poisson(options), 1, SHAPE), openLoop(trace, 2, SHAPE)].map(firsts);
  expect(own).toEqual(again);
  expect(own).not.toEqual(firsts(openLoop(poisson({ ...options, seed: 8 }), 1, SHAPE)));
  for (const [i, arrival] of own!.entries()) {
    expect(Math.abs(twice![i]!.at - arrival.at / 2)).toBeLessThanOrEqual(1);
    expect(twice![i]!.sim.output_tokens).toBe(arrival.sim.output_tokens);
  }
  expect(4_000 / (own!.at(-1)!.at / 1e6)).toBeCloseTo(4, 0);
  const gaps = own!.slice(1).map((arrival, i) => arrival.at - own![i]!.at);
  const mean = gaps.reduce((a, b) => a + b, 0) / gaps.length;
  const deviation = Math.sqrt(gaps.reduce((a, b) => a + (b - mean) ** 2, 0) / gaps.length);
  expect(deviation / mean).toBeGreaterThan(0.93);
  expect(deviation / mean).toBeLessThan(1.07);
});

test("ShareGPT-like lengths: near the published means, within OPT's positions", () => {
  const arrivals = firsts(openLoop(poisson({ workload: SHAREGPT, per_second: 1, calls: 20_000, seed: 1 }), 1, SHAPE));
  const mean = (of: (a: Arrival) => number) => arrivals.reduce((sum, a) => sum + of(a), 0) / arrivals.length;
  expect(mean((a) => a.sim.call.prompt_tokens) / 755.5).toBeCloseTo(1, 1);
  expect(Math.abs(mean((a) => a.sim.output_tokens) / 200.3 - 1)).toBeLessThan(0.2);
  for (const { sim } of arrivals) expect(sim.call.prompt_tokens + sim.output_tokens).toBeLessThanOrEqual(2_048);
});

test("agents: each turn's prompt begins with the one before it; all share the system prompt and nothing else", () => {
  const fixed = (tokens: number) => ({ type: "fixed" as const, tokens });
  const source = agents({ agents: 2, turns: 3, system_tokens: 64, added: fixed(32), answer: fixed(10), tool_ms: 100, seed: 3 });
  const clients = closedLoop(source, { users: 2, stagger_us: 0, gap_us_max: 1e9, sessions: 2, calls_max: null }, SHAPE);
  const [a, b] = firsts(clients);
  const blocks = (arrival: Arrival | undefined) => arrival?.sim.call.prefix?.blocks ?? [];
  expect(a!.sim.call.prompt_tokens).toBe(96);
  expect(blocks(a).slice(0, 4)).toEqual(blocks(b).slice(0, 4));
  expect(blocks(a)[4]).not.toBe(blocks(b)[4]);
  const done = { type: "done", finish_reason: "stop", usage: { prompt_tokens: 1, cached_tokens: 0, completion_tokens: 1 } } as const;
  const [next] = clients.ended(a!.sim.call, done, micros(1e6));
  expect(next!.sim.call.prompt_tokens).toBe(96 + 10 + 32);
  expect(blocks(next).slice(0, 6)).toEqual(blocks(a));
  expect(next!.at).toBeGreaterThan(1e6);
});

test("a prompt that does not fit beside its answer is cut, and nothing is known of its beginning", () => {
  const trace = new OpenTrace(512);
  trace.push({
    at_us: 0,
    prompt_tokens: 4_000,
    output_tokens: 500,
    tenant: "t",
    program: null,
    agent: null,
    blocks: [1, 2, 3, 4, 5, 6, 7],
  });
  const [arrival] = firsts(openLoop(trace, 1, SHAPE));
  expect(arrival!.sim.call).toMatchObject({ prompt_tokens: 1_548, max_tokens: 500 });
  expect(arrival!.sim.call.prefix).toBeUndefined();
});

test("block names: of everything before them, of the tenant, exact in a number", () => {
  const [a, b] = [saltOf("a"), saltOf("b")];
  expect(chained(a, [], [1, 2])).toEqual(chained(a, chained(a, [], [1]), [2]));
  expect(chained(a, [], [1, 2])[1]).not.toBe(chained(a, [], [3, 2])[1]);
  expect(chained(a, [], [1])[0]).not.toBe(chained(b, [], [1])[0]);
  const names = new Set<number>();
  for (let i = 0; i < 200_000; i++) names.add(chain(a, i));
  expect(names.size).toBe(200_000);
  for (const name of [...names].slice(0, 1_000)) expect(Number.isSafeInteger(name) && name >= 0).toBe(true);
});
