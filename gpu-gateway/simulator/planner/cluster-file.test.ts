/** Cluster files: what is wrong is said all at once; which configurations a good one allows. */
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { candidatesOf } from "./candidates.ts";
import { parseClusterFile } from "./cluster-file.ts";
import { quantileOfCounts, spreadOf } from "./quantiles.ts";
import { fewest, highestLoad } from "./search.ts";

const GOOD = {
  name: "c",
  gpu: { type: "A100-80GB-SXM", price_per_hour: 2, currency: "EUR" },
  gpus_per_node: 4,
  nodes: 1,
  model: "llama-3-70b",
  search: { prefill: [{ tp: 2 }, { tp: 4 }], decode: [{ tp: 2 }], colocated: [{ tp: 1 }, { tp: 4 }] },
};
const faults = (over: object): readonly string[] => {
  const outcome = parseClusterFile({ ...GOOD, ...over });
  return outcome.type === "faults" ? outcome.faults : [];
};
function parsed(over: object) {
  const outcome = parseClusterFile({ ...GOOD, ...over });
  if (outcome.type === "faults") throw new Error(outcome.faults.join("; "));
  return outcome.cluster;
}

describe("a cluster file", () => {
  test("all of its faults are said together, each with its place", () => {
    const found = faults({ nodes: 0, model: 7, gpu: { ...GOOD.gpu, currency: "euro" }, typo: 1 }).join("\n");
    for (const part of ["nodes", "model", "gpu.currency", "typo"]) expect(found).toContain(part);
  });
  test.each([
    [{ model: "gpt-5" }, "model: is not known; there are llama-3-8b"],
    [{ search: undefined }, "needs either pools or search"],
    [{ pools: [{ role: "both", instances: 1, tp: 4 }] }, "needs either pools or search"],
    [{ search: undefined, pools: [{ role: "both", instances: 2, tp: 4 }] }, "take 8 GPUs; 1 nodes of 4 have 4"],
    [{ search: undefined, pools: [{ role: "prefill", instances: 1, tp: 4 }] }, "need role both, or prefill and decode"],
    [{ search: undefined, nodes: { min: 1, max: 2 }, pools: [{ role: "both", instances: 1, tp: 4 }] }, "is a number when pools are given"],
    [{ nodes: { min: 3, max: 2 } }, "min is above max"],
    [{ search: { prefill: [{ tp: 1 }] } }, "prefill and decode shapes go together"],
    [{ search: {} }, "names no shape"],
    [{ policies: [{ routing: "magic" }] }, 'routing: there is no policy "magic"'],
    [{ policies: [{}, { name: "baseline" }] }, "two have one name"],
  ])("%j: %s", (over, what) => {
    expect(faults(over).join("\n")).toContain(what);
  });
  test("those that come with the product are good, and allow something", () => {
    const folder = new URL("../../../examples/clusters/", import.meta.url);
    const files = readdirSync(folder);
    expect(files.length).toBeGreaterThan(2);
    for (const file of files) {
      const outcome = parseClusterFile(JSON.parse(readFileSync(new URL(file, folder), "utf8")));
      expect([file, outcome.type === "faults" ? outcome.faults : []]).toEqual([file, []]);
      if (outcome.type === "cluster") {
        const nodes = typeof outcome.cluster.nodes === "number" ? outcome.cluster.nodes : outcome.cluster.nodes.max;
        expect(candidatesOf(outcome.cluster, nodes).candidates.length).toBeGreaterThan(0);
      }
    }
  });
});

describe("configurations", () => {
  const names = (over: object, nodes: number) => candidatesOf(parsed(over), nodes).candidates.map((c) => c.name.replace(" · baseline", ""));
  test("every split; shapes that do not fit are refused with why", () => {
    expect(names({ search: { prefill: [{ tp: 2 }, { tp: 4 }], decode: [{ tp: 4 }], colocated: [{ tp: 4 }] } }, 2)).toEqual([
      "C2×tp4",
      "P1×tp4 D1×tp4",
    ]);
    const { refused } = candidatesOf(parsed({}), 2);
    expect(refused.map((r) => r.name)).toContain("tp1");
    expect(refused[0]?.why).toMatch(/leaves room for/);
  });
  test("by node, by instance, and with GPUs left over", () => {
    const small = { model: "llama-3-8b", search: { prefill: [{ tp: 2 }], decode: [{ tp: 1 }] } };
    expect(names(small, 1)).toEqual(["P1×tp2 D2×tp1"]);
    expect(names({ ...small, search: { ...small.search, partial: true } }, 1)).toEqual(["P1×tp2 D1×tp1", "P1×tp2 D2×tp1"]);
    expect(names(small, 3)).toEqual(["P2×tp2 D8×tp1", "P4×tp2 D4×tp1"]);
    expect(names({ ...small, search: { ...small.search, split_by: "instance" } }, 3)).toHaveLength(5);
  });
  test("engine settings: the file's, then the part's own; pools stand as they are", () => {
    const pools = [
      { role: "prefill", instances: 1, tp: 2, engine: { step_tokens: 512 } },
      { role: "decode", instances: 1, tp: 2 },
    ];
    const [only] = candidatesOf(
      parsed({ model: "llama-3-8b", search: undefined, pools, engine: { slots: 64, step_tokens: 1_024 } }),
      1,
    ).candidates;
    expect(only?.cluster.pools).toMatchObject([
      { role: "prefill", step_tokens: 512, slots: 64 },
      { role: "decode", step_tokens: 1_024, slots: 64, batching: "chunked" },
    ]);
    expect(only).toMatchObject({ gpus: 4, gpus_used: 4 });
  });
});

describe("search", () => {
  const search = { tolerance: 0.02, level: (m: number) => m, stopped: () => false };
  test("the highest load that holds, wherever it lies and wherever the search begins", () => {
    for (const limit of [0.02, 0.3, 1, 1.7, 40, 900])
      for (const start of [0.05, 1, 64]) {
        const found = highestLoad((m) => m <= limit, start, search);
        expect(found.holds! <= limit && found.fails! > limit && found.fails! / found.holds! <= 1.0201).toBe(true);
      }
  });
  test("ends where nothing holds, where everything does, at a tolerance of nothing, and by whole users", () => {
    expect(highestLoad(() => false, 1, search)).toMatchObject({ holds: null });
    expect(highestLoad(() => true, 1, search)).toMatchObject({ holds: 1_024, fails: null });
    expect(highestLoad((m) => m < 3, 1, { ...search, tolerance: 0 }).holds).toBeCloseTo(3);
    const users = (m: number) => Math.max(1, Math.round(10 * m));
    const found = highestLoad((m) => users(m) <= 13, 1, { ...search, tolerance: 0, level: users });
    expect([users(found.holds!), users(found.fails!)]).toEqual([13, 14]);
  });
  test("the fewest that hold", () => {
    for (let limit = 1; limit <= 16; limit++)
      expect(
        fewest(
          1,
          16,
          (n) => n >= limit,
          () => false,
        ),
      ).toBe(limit);
    expect(
      fewest(
        1,
        16,
        () => false,
        () => false,
      ),
    ).toBeNull();
  });
});

test("quantiles are values that occurred, by nearest rank", () => {
  const values = Array.from({ length: 100 }, (_, i) => 100 - i);
  expect(spreadOf(values)).toEqual({ mean: 50.5, p50: 50, p90: 90, p99: 99, max: 100 });
  expect(spreadOf([])).toBeNull();
  expect(
    quantileOfCounts(
      new Map([
        [5, 1],
        [1, 98],
        [9, 1],
      ]),
      0.99,
    ),
  ).toBe(5);
});
