import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { blockHashes } from "./block-hash.ts";
import { EngineModel } from "./engine.ts";
import type { EngineRequest, Step } from "./engine.ts";
import { BLOCK_TOKENS } from "./kv-blocks.ts";
import { LLAMA_3_8B_A100 as A100, mustProfile, handoverUs, loadUs, prefillPairs, sleepUs, stepUs, wakeUs } from "./profile.ts";

const limits = { kv_tokens: 4_096, sequences: 8, step_tokens: 512 };
const request = (id: string, more: Partial<EngineRequest> = {}): EngineRequest => ({
  id,
  prompt_tokens: 100,
  block_hashes: [],
  output_tokens: 5,
  priority: 0,
  remote: false,
  hold: false,
  ...more,
});
type Token = { readonly id: string; readonly index: number; readonly last: boolean; readonly cached: number };
type Seen = Pick<Step, "done_at" | "batch" | "prefill_tokens" | "decode_tokens"> & { readonly tokens: readonly Token[] };
/** A copy: the model reuses what it gives. */
const seen = ({ done_at, batch, prefill_tokens, decode_tokens, emitters, finished }: Step): Seen => ({
  done_at,
  batch,
  prefill_tokens,
  decode_tokens,
  tokens: emitters.map((one) => ({ id: one.id, index: one.emitted - 1, last: finished.includes(one), cached: one.cached })),
});
/** Steps until there is nothing to compute. */
function runOut(model: EngineModel, from = 0): { steps: Seen[]; at: number } {
  const steps: Seen[] = [];
  for (let at = from; ;) {
    const step = seen(model.step(at));
    if (step.done_at === null) return { steps, at };
    steps.push(step);
    at = step.done_at;
  }
}
const tokensOf = (steps: readonly Seen[]) => steps.flatMap((step) => step.tokens);

describe("step times", () => {
  test("the dense part goes through the published points, plus 3 ms of host", () => {
    const at = (tokens: number) => stepUs(A100, { tokens, prefill_pairs: 0, decode_context: 0, prefill_tokens: tokens, decodes: 0 });
    expect(at(1)).toBe(9_696 + 3_000);
    expect(at(512)).toBe(34_640 + 3_000);
    expect(at(4_096)).toBe(273_568 + 3_000);
  });
  test("decode is linear in its context: 131,072 B a token at 0.75 of 2.039 TB/s", () => {
    const at = (decode_context: number) => stepUs(A100, { tokens: 8, prefill_pairs: 0, decode_context, prefill_tokens: 0, decodes: 8 });
    expect(at(80_000) - at(0)).toBeCloseTo((80_000 * 131_072) / (0.75 * 2.039e6), -1);
  });
  test("chunks of a prompt attend to as many pairs as the whole", () => {
    expect(prefillPairs(0, 300) + prefillPairs(300, 700)).toBe(prefillPairs(0, 1_000));
  });
  test("KV goes over NVLink at 300 GB/s; wakes agree with what is published", () => {
    expect(handoverUs(A100, 8_192) - handoverUs(A100, 0)).toBeCloseTo((8_192 * 131_072) / 300_000, -1);
    expect(wakeUs(A100, 1) / 1e6).toBeCloseTo(0.84, 2);
    const small = { ...A100, weight_bytes: 1.2e9 }; // 0.6 B parameters: 0.26 s published
    expect(wakeUs(small, 1) / 1e6).toBeCloseTo(0.25, 2);
    expect(sleepUs(A100, 2)).toBeLessThan(sleepUs(A100, 1));
    expect(loadUs(A100)).toBeGreaterThan(wakeUs(A100, 2));
  });
});

describe("an engine", () => {
  test("a prompt is computed in chunks of the step's budget, then one token a step", () => {
    const model = new EngineModel(A100, limits);
    model.add(request("a", { prompt_tokens: 1_200, output_tokens: 3 }));
    const { steps } = runOut(model);
    expect(steps.map((step) => step.tokens.length)).toEqual([0, 0, 1, 1, 1]);
    expect(tokensOf(steps).map((token) => token.last)).toEqual([false, false, true]);
    expect(model.kv.used).toBe(0);
  });
  test("decoding goes on while another prompt is prefilled", () => {
    const model = new EngineModel(A100, limits);
    model.add(request("a", { prompt_tokens: 16, output_tokens: 10 }));
    model.step(0);
    model.add(request("b", { prompt_tokens: 1_000, output_tokens: 1 }));
    const next = seen(model.step(0));
    expect(next.tokens.map((token) => token.id)).toEqual(["a"]);
    expect(next).toMatchObject({ batch: 2, decode_tokens: 1, prefill_tokens: 511 });
  });
  test("a lower priority number runs earlier, ties by arrival", () => {
    const model = new EngineModel(A100, { ...limits, sequences: 1 });
    for (const [id, priority] of [
      ["a", 5],
      ["b", 5],
      ["c", 0],
    ] as const)
      model.add(request(id, { priority, output_tokens: 1 }));
    expect(tokensOf(runOut(model).steps).map((token) => token.id)).toEqual(["c", "a", "b"]);
  });
  test("a repeated prefix is found by its salt only, and never the last token", () => {
    const model = new EngineModel(A100, limits);
    const text = "x".repeat(64);
    const hashes = (salt: string) => blockHashes(64, (from, to) => text.slice(from, to), salt);
    const cached = (id: string, salt: string) => {
      model.add(request(id, { prompt_tokens: 64, block_hashes: hashes(salt), output_tokens: 1 }));
      return tokensOf(runOut(model).steps)[0]?.cached;
    };
    expect([cached("a", "one"), cached("b", "one"), cached("c", "two")]).toEqual([0, 64 - BLOCK_TOKENS, 0]);
  });
  test("a remote request waits for its KV, then computes its last prompt token only", () => {
    const model = new EngineModel(A100, limits);
    model.add(request("a", { prompt_tokens: 1_000, remote: true, output_tokens: 1 }));
    const step = model.step(0);
    expect(step.pulls.map((pull) => [pull.id, pull.pull_tokens])).toEqual([["a", 1_000]]);
    expect(step.done_at).toBeNull();
    model.received("a");
    const { steps } = runOut(model);
    expect(steps).toHaveLength(1);
    expect(steps[0]?.done_at).toBe(stepUs(A100, { tokens: 1, prefill_pairs: 0, decode_context: 1_000, decodes: 1, prefill_tokens: 0 }));
  });
  test("what others have cached is fetched where the own cache has less, and the rest computed; what does not come is computed", () => {
    for (const comes of [true, false]) {
      const model = new EngineModel(A100, limits);
      model.add(
        request("a", { prompt_tokens: 400, fetch_tokens: 256, block_hashes: Array.from({ length: 25 }, (_, i) => i), output_tokens: 1 }),
      );
      const step = model.step(0);
      expect(step.pulls.map((pull) => pull.pull_tokens)).toEqual([256]);
      expect(step.done_at).toBeNull();
      if (comes) model.received("a");
      else model.notReceived("a");
      const [computing] = runOut(model).steps;
      expect(computing).toMatchObject({ prefill_tokens: comes ? 144 : 400, tokens: [{ cached: comes ? 256 : 0, last: true }] });
      // Now its own cache has it.
      model.add(
        request("b", { prompt_tokens: 400, fetch_tokens: 256, block_hashes: Array.from({ length: 25 }, (_, i) => i), output_tokens: 1 }),
      );
      expect(runOut(model).steps[0]?.prefill_tokens).toBe(16);
    }
  });
  test("whole prompts: as many as go into a step, a longer one alone, and no decoding beside them", () => {
    const model = new EngineModel(A100, { ...limits, batching: "prefill_first" });
    for (const [id, prompt_tokens] of [
      ["a", 200],
      ["b", 300],
      ["c", 20],
      ["d", 900],
    ] as const)
      model.add(request(id, { prompt_tokens, output_tokens: 2 }));
    const { steps } = runOut(model);
    expect(steps.map((step) => [step.prefill_tokens, step.decode_tokens])).toEqual([
      [500, 0],
      [20, 0],
      [900, 0],
      [0, 4],
    ]);
  });
  test("pipeline stages: steps follow each other, and no sequence is in two of them", () => {
    const model = new EngineModel(mustProfile({ model: "llama-3-8b", tp: 1, pp: 2, all_reduce: "nccl", gpus_per_node: 4 }), limits);
    for (const id of ["a", "b", "c", "d"]) model.add(request(id, { prompt_tokens: 16, output_tokens: 50 }));
    const busy = new Map<string, number>();
    const ends: number[] = [];
    for (let at = 0; model.running + model.waiting > 0;) {
      const step = model.step(at);
      for (const { id } of step.emitters) {
        expect(busy.get(id) ?? 0).toBeLessThanOrEqual(at);
        busy.set(id, step.done_at ?? 0);
      }
      if (step.done_at !== null) ends.push(step.done_at);
      at = step.done_at === null ? Math.min(...ends.filter((end) => end > at)) : step.next_at;
    }
    const alone = new EngineModel(model.profile, limits);
    alone.add(request("a", { prompt_tokens: 16, output_tokens: 200 }));
    // Two halves side by side: the same 200 tokens in half the steps one after the other, and a little more.
    expect(Math.max(...ends) / runOut(alone).at).toBeLessThan(0.35);
  });
  test("held blocks stay until released, or until the lease ends", () => {
    const model = new EngineModel(A100, limits);
    for (const id of ["a", "b"]) model.add(request(id, { hold: true, output_tokens: 1 }));
    const { at } = runOut(model);
    expect(model.blocksOf("a")).toHaveLength(Math.ceil(100 / BLOCK_TOKENS));
    for (const id of ["a", "b"]) expect(model.lease(id, at + 1_000)).toBe(true);
    expect(model.releaseHeld("a")).toBe(true);
    expect(model.releaseHeld("a")).toBe(false);
    model.lease("b", at + 2_000);
    expect(model.expire(at + 1_999)).toEqual([]);
    expect(model.expire(at + 2_000)).toEqual(["b"]);
    expect(model.lease("b", at + 9_000)).toBe(false);
    expect(model.kv.used).toBe(0);
  });
  test("when memory runs out the youngest is preempted, and all still finish with every token once", () => {
    const model = new EngineModel(A100, { kv_tokens: 320, sequences: 8, step_tokens: 512 });
    for (const id of ["a", "b", "c"]) model.add(request(id, { prompt_tokens: 90, output_tokens: 100 }));
    const tokens = tokensOf(runOut(model).steps);
    expect(model.preemptions).toBeGreaterThan(0);
    for (const id of ["a", "b", "c"]) {
      expect(tokens.filter((token) => token.id === id).map((token) => token.index)).toEqual(Array.from({ length: 100 }, (_, i) => i));
    }
    expect(model.kv.used).toBe(0);
  });
  test("a request that can never fit is a bug of the caller", () => {
    const model = new EngineModel(A100, limits);
    expect(() => model.add(request("a", { prompt_tokens: 4_096 }))).toThrow(RangeError);
  });
});

type Action =
  | { type: "add"; prompt: number; output: number; remote: boolean; hold: boolean; group: number; priority: number; fetch: number }
  | { type: "step" | "abort" | "release" | "expire" | "drop" | "receive" | "miss"; pick: number };
const action: fc.Arbitrary<Action> = fc.oneof(
  fc.record({
    type: fc.constant("add" as const),
    prompt: fc.integer({ min: 1, max: 400 }),
    output: fc.integer({ min: 1, max: 60 }),
    remote: fc.boolean(),
    hold: fc.boolean(),
    group: fc.nat(2),
    priority: fc.nat(2),
    fetch: fc.oneof(fc.constant(0), fc.nat(400)),
  }),
  fc.record({ type: fc.constantFrom("step", "step", "step", "abort", "release", "expire", "receive", "miss"), pick: fc.nat(50) }),
  fc.record({ type: fc.constant("drop" as const), pick: fc.nat(50) }),
);

/** Plays the actions; the log of all that the model said. */
function play(actions: readonly Action[], kind: keyof typeof KINDS): string {
  const { profile, batching } = KINDS[kind];
  const model = new EngineModel(profile, { kv_tokens: 800, sequences: 6, step_tokens: 256, batching });
  const log: unknown[] = [];
  const emitted = new Map<string, number>();
  let [now, serial] = [0, 0];
  const step = () => {
    const step = model.step(now);
    const said = seen(step);
    log.push(said);
    now = said.done_at === null ? now + 1_000_000 : step.next_at;
    for (const token of said.tokens) {
      expect(token.index).toBe(emitted.get(token.id) ?? 0); // each token once, in order
      emitted.set(token.id, token.index + 1);
    }
    expect(model.kv.used).toBeLessThanOrEqual(model.kv.total);
    return said.done_at !== null;
  };
  for (const each of actions) {
    if (each.type === "add") {
      const hashes = Array.from({ length: Math.floor(each.prompt / BLOCK_TOKENS) }, (_, i) => `${each.group}:${i}`);
      const { prompt: prompt_tokens, output: output_tokens, fetch: fetch_tokens, priority, remote, hold } = each;
      model.add({ id: `r${serial++}`, prompt_tokens, output_tokens, block_hashes: hashes, priority, remote, fetch_tokens, hold });
      continue;
    }
    const id = `r${each.pick}`;
    if (each.type === "step") step();
    else if (each.type === "abort") log.push(model.abort(id));
    else if (each.type === "release") log.push(model.releaseHeld(id));
    else if (each.type === "receive") model.received(id);
    else if (each.type === "miss") model.notReceived(id);
    else if (each.type === "expire") log.push(model.lease(id, now), model.expire(now));
    else log.push(model.dropAll());
  }
  // Liveness: with all KV received and all holds released, everything ends and no block is left.
  for (let rounds = 0; model.running + model.waiting > 0; rounds++) {
    expect(rounds).toBeLessThan(20_000);
    for (let i = 0; i < serial; i++) {
      model.received(`r${i}`);
      model.releaseHeld(`r${i}`);
    }
    step();
  }
  for (let i = 0; i < serial; i++) model.releaseHeld(`r${i}`);
  expect(model.kv.used).toBe(0);
  return JSON.stringify(log);
}

const KINDS = {
  chunked: { profile: A100, batching: "chunked" },
  whole: { profile: A100, batching: "prefill_first" },
  stages: { profile: mustProfile({ model: "llama-3-8b", tp: 1, pp: 2, all_reduce: "nccl", gpus_per_node: 4 }), batching: "chunked" },
} as const;

test.each(["chunked", "whole", "stages"] as const)(
  "random histories, %s: no block leaks, tokens come once and in order, all ends, the same history says the same (I9)",
  (kind) => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        expect(play(actions, kind)).toBe(play(actions, kind));
      }),
      { numRuns: 300 },
    );
  },
);
