import { describe, expect, test } from "vitest";
import { allReduceUs } from "./collective.ts";
import { rescaled, sumOf, valueAt } from "./curve.ts";
import { LLAMA_3_8B_A100, MODELS, loadUs, mustProfile, prefillPairs, profileOf, sleepUs, stageUs, stepUs, wakeUs } from "./profile.ts";
import type { Deployment, ModelProfile, StepWork } from "./profile.ts";

const on = (model: string, tp: number, more: Partial<Deployment> = {}): ModelProfile =>
  mustProfile({ model, tp, pp: 1, all_reduce: "nccl", gpus_per_node: 8, ...more });
const faultOf = (deployment: Partial<Deployment>): string => {
  const outcome = profileOf({ model: "llama-3-8b", tp: 1, pp: 1, all_reduce: "nccl", gpus_per_node: 8, ...deployment });
  return outcome.type === "fault" ? outcome.fault : "";
};
const prompts = (...lengths: number[]): StepWork => {
  const tokens = lengths.reduce((sum, length) => sum + length, 0);
  const prefill_pairs = lengths.reduce((sum, length) => sum + prefillPairs(0, length), 0);
  return { tokens, prefill_pairs, decode_context: 0, prefill_tokens: tokens, decodes: 0 };
};
const decoding = (batch: number, context: number): StepWork => ({
  tokens: batch,
  prefill_pairs: 0,
  decode_context: batch * context,
  prefill_tokens: 0,
  decodes: batch,
});

describe("the tables' published sums", () => {
  const dense = (model: string, tp: number, tokens: number) => {
    const { times } = MODELS[model]!;
    return times.type === "operators" ? valueAt(times.dense_us[tp]!, tokens) / 1_000 : Number.NaN;
  };
  test.each([
    ["llama-3-8b", 1, 1, 9.7],
    ["llama-3-8b", 1, 512, 34.6],
    ["llama-3-8b", 1, 2_048, 145.6],
    ["llama-3-8b", 1, 4_096, 273.6],
    ["llama-3-70b", 4, 1, 24.9],
    ["llama-3-70b", 4, 512, 89.9],
    ["llama-3-70b", 4, 2_048, 335.7],
    ["llama-3-70b", 4, 4_096, 655.9],
  ] as const)("%s at TP %i: %i tokens take %f ms", (model, tp, tokens, ms) => {
    expect(Math.round(dense(model, tp, tokens) * 10) / 10).toBe(ms);
  });
  test("a step is the dense part, 3 ms of host, 160 all-reduces, and attention", () => {
    const profile = on("llama-3-70b", 4);
    const bytes = 512 * 8_192 * 2;
    const all_reduces = 160 * valueAt(allReduceUs({ ranks: 4, per_node: 4 }, "nccl")!, bytes);
    const attention = (4 * 64 * 128 * 80 * prefillPairs(0, 512)) / 4 / (0.5 * 312e6);
    expect(stepUs(profile, prompts(512))).toBeCloseTo(89_920 + 3_000 + all_reduces + attention, -1);
    const reads = (8 * 1_000 * 327_680) / 4 / (0.75 * 2.039e6);
    expect(stepUs(profile, decoding(8, 1_000)) - stepUs(profile, decoding(8, 0))).toBeCloseTo(reads, -1);
  });
});

describe("OPT, by DistServe's polynomials", () => {
  test("a prompt: a + bl + cl², whole or in chunks", () => {
    const profile = on("opt-13b", 1);
    const [a, b, c] = [18.102_546, 0.101_912_257, 7.122_264e-6];
    expect(stepUs(profile, prompts(512))).toBeCloseTo(1_000 * (a + b * 512 + c * 512 ** 2), -1);
    expect(stepUs(profile, prompts(100, 300))).toBeCloseTo(1_000 * (a + b * 400 + c * (100 ** 2 + 300 ** 2)), -1);
    const chunks = [0, 256].map((before) => ({ ...prompts(256), prefill_pairs: prefillPairs(before, 256) }));
    const chunked = chunks.reduce((sum, work) => sum + stepUs(profile, work), 0);
    expect(chunked - stepUs(profile, prompts(512))).toBeCloseTo(1_000 * a, -1);
  });
  test("decode: a + bΣcontext + c·batch, in two fits", () => {
    const profile = on("opt-13b", 1);
    expect(stepUs(profile, decoding(94, 200))).toBeCloseTo(1_000 * (19.934_703 + 0.000_626_936 * 18_800 + 0.038_506_977 * 94), -1);
    expect(stepUs(profile, decoding(95, 200))).toBeCloseTo(1_000 * (7.166_189 + 0.000_579_8 * 19_000 + 0.158_310_962 * 95), -1);
  });
  test("a decoding sequence that rides along costs a token and its context", () => {
    const profile = on("opt-13b", 2);
    const mixed = { ...prompts(512), tokens: 513, decode_context: 1_000, decodes: 1 };
    expect(stepUs(profile, mixed) - stepUs(profile, prompts(512))).toBeCloseTo(68.6 + 341.1, -1);
  });
});

describe("a deployment", () => {
  test("what cannot be is a fault that says what can", () => {
    expect(faultOf({ model: "gpt" })).toBe("model gpt is not known: llama-3-8b, llama-3-70b, opt-13b, opt-66b");
    expect(faultOf({ model: "opt-13b", tp: 8 })).toBe("opt-13b was not measured at tp 8: it can be 1, 2, 4");
    expect(faultOf({ pp: 3 })).toBe("pp 3 does not divide llama-3-8b's 32 layers");
    expect(faultOf({ model: "llama-3-70b", tp: 2 })).toContain("no KV on 2 GPUs");
    expect(faultOf({ model: "opt-66b", tp: 2 })).toContain("less than one context of 2048");
    expect(faultOf({ tp: 8, gpus_per_node: 2 })).toContain("was not measured");
    expect(faultOf({ model: "llama-3-70b", tp: 4, pp: 2, gpus_per_node: 6 })).toContain("two nodes");
    expect(() => mustProfile({ model: "gpt", tp: 1, pp: 1, all_reduce: "nccl", gpus_per_node: 8 })).toThrow(RangeError);
  });
  test("KV has what 0.9 of memory leaves beside weights and 4 GB a GPU", () => {
    const tokens = (model: string, tp: number, pp = 1) => on(model, tp, { pp }).kv_tokens;
    expect(tokens("llama-3-8b", 1)).toBe(16 * Math.floor((0.9 * 80e9 - 16.06e9 - 4e9) / 131_072 / 16));
    expect(tokens("llama-3-70b", 4)).toBe(16 * Math.floor((4 * 68e9 - 141.1e9) / 327_680 / 16));
    expect(tokens("llama-3-70b", 2, 2)).toBe(tokens("llama-3-70b", 4));
    expect(tokens("opt-13b", 1)).toBe(16 * Math.floor((68e9 - 25.7e9) / 819_200 / 16));
  });
  test("its GPUs load, sleep and wake in parallel", () => {
    const [one, four] = [LLAMA_3_8B_A100, on("llama-3-8b", 4)];
    expect(wakeUs(four, 1) - 200_000).toBeCloseTo((wakeUs(one, 1) - 200_000) / 4, -1);
    expect(sleepUs(four, 1)).toBeLessThan(sleepUs(one, 1));
    expect(loadUs(on("llama-3-70b", 4))).toBeCloseTo(12e6 + 141.1e9 / 4 / 2_000, -1);
  });
  test("more GPUs make a prompt faster, and all of them together no more than linearly", () => {
    const at = (tp: number) => stepUs(on("llama-3-8b", tp), prompts(2_048));
    for (const tp of [2, 4, 8]) {
      expect(at(tp)).toBeLessThan(at(tp / 2));
      expect(at(tp) * tp).toBeGreaterThan(at(1));
    }
  });
  test("pipeline stages: a step takes a little longer, the next one may follow sooner", () => {
    const [flat, deep] = [on("llama-3-70b", 4), on("llama-3-70b", 4, { pp: 2 })];
    const work = prompts(2_048);
    expect(stepUs(deep, work)).toBeGreaterThan(stepUs(flat, work));
    expect(stepUs(deep, work)).toBeLessThan(stepUs(flat, work) * 1.05);
    expect(stageUs(flat, work)).toBe(stepUs(flat, work));
    expect(stageUs(deep, work)).toBeLessThan(stepUs(deep, work) * 0.55);
    const far = on("llama-3-70b", 4, { pp: 2, gpus_per_node: 4 });
    expect(stepUs(far, work)).toBeGreaterThan(stepUs(deep, work));
  });
});

describe("all-reduce", () => {
  const at = (algorithm: "nccl" | "nvrar", bytes: number) => valueAt(allReduceUs({ ranks: 16, per_node: 8 }, algorithm)!, bytes);
  test("NVRAR between nodes: 1.9 to 3.6 times less from 128 KB to 2 MB, never more, the same from 4 MB on", () => {
    for (let kib = 128; kib <= 2_048; kib *= 2) {
      expect(at("nccl", kib * 1_024) / at("nvrar", kib * 1_024)).toBeGreaterThanOrEqual(1.9 - 1e-9);
      expect(at("nccl", kib * 1_024) / at("nvrar", kib * 1_024)).toBeLessThanOrEqual(3.6 + 1e-9);
    }
    for (let bytes = 1_024; bytes < 64e6; bytes *= 1.3) expect(at("nvrar", bytes)).toBeLessThanOrEqual(at("nccl", bytes) * 1.01);
    expect(at("nvrar", 8e6)).toBeCloseTo(at("nccl", 8e6), 6);
    expect(at("nvrar", 20_000)).toBeLessThanOrEqual(at("nvrar", 128 * 1_024));
  });
  test("within a node it is NCCL either way, and a decode step over two nodes gains by NVRAR", () => {
    expect(allReduceUs({ ranks: 8, per_node: 8 }, "nvrar")).toBe(allReduceUs({ ranks: 8, per_node: 8 }, "nccl"));
    const step = (all_reduce: "nccl" | "nvrar") => stepUs(on("llama-3-70b", 8, { gpus_per_node: 4, all_reduce }), decoding(32, 1_000));
    expect(step("nvrar")).toBeLessThan(step("nccl") * 0.8);
    expect(stepUs(on("llama-3-70b", 8), decoding(32, 1_000))).toBeLessThan(step("nccl"));
  });
});

test("curves: level before, straight between, sloping on after; sums keep every corner", () => {
  const curve = [[10, 1] as const, [20, 3] as const];
  expect([0, 10, 15, 20, 25].map((x) => valueAt(curve, x))).toEqual([1, 1, 2, 3, 4]);
  expect(valueAt([[5, 7]], 100)).toBe(7);
  expect(rescaled(curve, 10)).toEqual([
    [1, 1],
    [2, 3],
  ]);
  const sum = sumOf(
    [
      { curve, times: 2 },
      {
        curve: [
          [12, 0],
          [14, 4],
        ],
        times: 1,
      },
      { curve: [[1, 9]], times: 0 },
    ],
    1,
  );
  for (const x of [1, 11, 12, 13, 14, 20, 30]) expect(valueAt(sum, x)).toBeCloseTo(2 * valueAt(curve, x) + 2 * Math.max(0, x - 12), 9);
});
