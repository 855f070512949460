/**
 * The benches of bench/papers run, at a size of seconds, and their results point where their papers' do. How far is for the full runs
 * to say (docs/benchmarks.md).
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { readFigures } from "../../bench/lib/figures.ts";

const root = join(import.meta.dirname, "..", "..");
const dir = mkdtempSync(join(tmpdir(), "millrace-papers-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const TIMEOUT_MS = 120_000;

/** Runs it small; gives a cell by the beginnings of its row and column. */
function smoke(name: string, ...args: string[]): (row: string, column: string) => number {
  const json = join(dir, `${name}.json`);
  const bench = join(root, "bench", "papers", `${name}.ts`);
  const { status, stderr } = spawnSync(process.execPath, [bench, "--smoke", "--json", json, ...args], {
    encoding: "utf8",
    timeout: TIMEOUT_MS,
  });
  expect(stderr, name).toBe("");
  expect(status, name).toBe(0);
  const { figures } = readFigures(json);
  return (row, column) => {
    const found = figures.find((figure) => figure.row.startsWith(row) && figure.column.startsWith(column));
    if (found?.values[0] === undefined) throw new Error(`${name} says nothing of ${row}, ${column}`);
    return found.values[0];
  };
}

it("DistServe: the golden placement holds a goodput of the golden value's size", { timeout: TIMEOUT_MS }, () => {
  const cell = smoke("distserve");
  expect(cell("as the authors", "TP2 → TP1")).toBe(cell("as the authors", "best placement"));
  expect(cell("and an A100's memory", "TP2 → TP1")).toBeGreaterThan(1);
  expect(cell("and an A100's memory", "TP2 → TP1")).toBeLessThan(3);
  expect(cell("and the first token", "TP2 → TP1")).toBeLessThan(cell("and an A100's memory", "TP2 → TP1"));
});

it("DistServe: apart holds more than together where TPOT is strict", { timeout: TIMEOUT_MS }, () => {
  expect(smoke("distserve-colocated")("4 × TP1, prompts first", "apart ÷ it")).toBeGreaterThan(1.5);
});

it("Mooncake: random, load-balance, local-aware, conductor, in the paper's order", { timeout: TIMEOUT_MS }, () => {
  const cell = smoke("mooncake");
  const order = ["random", "load-balance", "local-aware", "conductor"].map((routing) => cell(`its own rate, GPU: ${routing}`, "mean TTFT"));
  expect(order).toEqual(order.toSorted((a, b) => b - a));
  expect(cell("its own rate, GPU: conductor", "cached")).toBeGreaterThan(cell("its own rate, GPU: load-balance", "cached"));
});

it("Mooncake: without its trace it says so, and ends as no other fault does", () => {
  const bench = join(root, "bench", "papers", "mooncake.ts");
  const { status, stderr } = spawnSync(process.execPath, [bench, "--trace", join(dir, "none.jsonl.gz")], { encoding: "utf8" });
  expect(status).toBe(3);
  expect(stderr).toContain("--trace FILE");
});

it("the 10-node plan: a hundred agents cannot make 14,000 tokens/s", { timeout: TIMEOUT_MS }, () => {
  smoke("seeds-cluster");
  const { figures } = readFigures(join(dir, "seeds-cluster-load.json"));
  const of = (row: string, column: string): number =>
    figures.find((one) => one.row === row && one.column === column)?.values[0] ?? Number.NaN;
  expect(of("3 + 7 nodes, 100 agents", "tokens/s")).toBeGreaterThan(1_000);
  expect(of("3 + 7 nodes, 100 agents", "tokens/s")).toBeLessThan(3_300);
  expect(of("3 + 7 nodes, 100 agents", "a token, p50")).toBeGreaterThan(of("3 + 7 nodes, 30 agents", "a token, p50"));
});

it("the swarm of 50 bots: 172 ms hold for short answers alone", { timeout: TIMEOUT_MS }, () => {
  const cell = smoke("swarm-bots");
  expect(cell("4 × both, chunks, 4 tokens", "p95, alone")).toBeLessThan(200);
  expect(cell("4 × both, chunks, 150 tokens", "p95, alone")).toBeGreaterThan(2_000);
  expect(cell("4 × both, chunks, 150 tokens", "questions/s within")).toBe(0);
});
