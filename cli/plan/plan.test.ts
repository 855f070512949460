/** `millrace plan` as a process: its answers, its exit codes, and what is left when it is interrupted. */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { planRequest } from "./request.ts";
import { ProgressLine } from "./progress.ts";

const folder = mkdtempSync(join(tmpdir(), "millrace-plan-"));
afterAll(() => rmSync(folder, { recursive: true }));
const main = fileURLToPath(new URL("../main.ts", import.meta.url));
const clusters = fileURLToPath(new URL("../../examples/clusters/", import.meta.url));
const SMALL = join(clusters, "one-node-8b.json");

type Ended = { readonly code: number | null; readonly out: string; readonly err: string };
function millrace(args: readonly string[], on_err?: (text: string, kill: () => void) => void): Promise<Ended> {
  const env = { ...process.env, DATABASE_URL: "", MILLRACE_STATE: join(folder, "none") };
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", main, "plan", ...args], { env });
  let [out, err] = ["", ""];
  child.stdout.on("data", (part: Buffer) => (out += part.toString()));
  child.stderr.on("data", (part: Buffer) => {
    err += part.toString();
    on_err?.(err, () => child.kill("SIGINT"));
  });
  return new Promise((resolve) => child.on("close", (code) => resolve({ code, out, err })));
}
function file(name: string, text: string): string {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
}
const calls = (n: number, gap_ms: number, extra = "") =>
  Array.from({ length: n }, (_, i) => JSON.stringify({ timestamp: i * gap_ms, input_length: 300, output_length: 20, hash_ids: [1] })).join(
    "\n",
  ) + extra;
const EASY = ["--slo", "ttft=2s,tpot=200ms"];

describe("millrace plan", { timeout: 60_000 }, () => {
  test("a met SLO: a table, exit 0; --json is one document; --html is one page that fetches nothing", async () => {
    const trace = file("good.jsonl", calls(120, 100));
    const table = await millrace([trace, "--cluster", SMALL, ...EASY]);
    expect(table.code).toBe(0);
    expect(table.out).toContain("The SLO is met on 1 node as");
    expect(table.out).toContain("time to first token");
    const page = join(folder, "plan.html");
    const json = await millrace([trace, "--cluster", SMALL, ...EASY, "--json", "--html", page, "--goodput", "none"]);
    expect(json.code).toBe(0);
    expect(JSON.parse(json.out)).toMatchObject({
      format: "millrace-plan",
      version: 1,
      complete: true,
      verdict: "met",
      workload: { calls: 120 },
    });
    const html = readFileSync(page, "utf8");
    expect(html.match(/<svg/g)?.length).toBe(6);
    expect(html.match(/<title id=/g)?.length).toBe(6);
    expect(html).not.toMatch(/https?:|<script|<link|@import|url\(/);
    expect(html).toContain("prefers-color-scheme:dark");
    expect(html).toContain("width=device-width");
  });
  test("a missed one: exit 3, and the nearest is shown", async () => {
    const ended = await millrace([
      file("good3.jsonl", calls(60, 100)),
      "--cluster",
      SMALL,
      "--slo",
      "ttft=1ms,tpot=200ms",
      "--goodput",
      "none",
    ]);
    expect(ended.code).toBe(3);
    expect(ended.out).toContain("No configuration tried meets the SLO");
  });
  test("a malformed trace: exit 4, one line with file and number; skipped and counted when asked", async () => {
    const trace = file("bad.jsonl", calls(60, 100, '\n{"timestamp": 9, "input_length": "many"}\n'));
    const ended = await millrace([trace, "--cluster", SMALL, ...EASY]);
    expect(ended).toMatchObject({ code: 4, out: "", err: `millrace: ${trace}:61: input_length is "many", not a number\n` });
    const skipped = await millrace([trace, "--cluster", SMALL, ...EASY, "--skip-malformed", "--goodput", "none"]);
    expect(skipped.code).toBe(0);
    expect(skipped.err).toContain("1 malformed lines were skipped; 60 calls were read");
  });
  test("what is wrong with flags and cluster is said at once, with exit 1", async () => {
    const ended = await millrace(["x.jsonl", "--cluster", file("c.json", '{"name":"x","nodes":0}'), "--slo", "ttft=fast,tpot=1ms"]);
    expect(ended.code).toBe(1);
    for (const part of ["ttft is fast, not a time like 200ms", "nodes: ", "model: "]) expect(ended.err).toContain(part);
    expect((await millrace(["x.jsonl"])).err).toContain("a plan needs --slo");
    const page = await millrace([
      file("g.jsonl", calls(3, 1)),
      "--cluster",
      SMALL,
      ...EASY,
      "--html",
      join(folder, "no", "such", "p.html"),
    ]);
    expect(page).toMatchObject({ code: 1, err: expect.stringContaining("cannot be written") });
    expect((await millrace(["export", "--from", "2026-01-01", "--to", "2026-01-02"])).err).toContain("no database");
    expect((await millrace(["--help"])).out).toContain("Exit codes");
  });
  test("interrupted: exit 130, and what is known so far is printed", { timeout: 120_000 }, async () => {
    const args = ["sharegpt:calls=60000,per_second=12", "--cluster", SMALL, "--slo", "ttft=10s,tpot=500ms", "--goodput", "all", "--json"];
    // Elsewhere than on a terminal a line says how far it is; the first comes after 10 s.
    const ended = await millrace(args, (err, kill) => err.includes("so far") && kill());
    expect(ended.code).toBe(130);
    expect(JSON.parse(ended.out)).toMatchObject({ complete: false, workload: { calls: 60_000 } });
    expect(ended.err).toMatch(/replay \d/);
  });
});

test("flags become a request; names and ranges are read as they are written", () => {
  const flags = {
    cluster: SMALL,
    slo: "ttft=1.5s,tpot=80ms,attainment=95%",
    rate: 2,
    gapMax: 600,
    goodput: "best",
    objective: "goodput",
    tolerance: 0.02,
    warmUp: 0.1,
    patience: 600,
    seed: 1,
  };
  const request = planRequest("agents:agents=5,turns=3", { ...flags, nodes: "2-4", policies: ["baseline", "routing=random,at_once=true"] });
  expect(request.slo).toEqual({ ttft_us: 1_500_000, tpot_us: 80_000, attainment: 0.95 });
  expect(request.trace).toMatchObject({ type: "agents", agents: 5, turns: 3, tool_ms: 2_000 });
  expect(request.cluster).toMatchObject({
    nodes: { min: 2, max: 4 },
    policies: [{ name: "baseline" }, { routing: "random", at_once: true }],
  });
  for (const [trace, over, what] of [
    ["sharegpt:calls=0", {}, "calls"],
    ["sharegpt:speed=1", {}, "speed"],
    ["agents:agents", {}, "is not name=value"],
    ["x", { slo: "ttft=1s" }, "needs ttft and tpot"],
    ["x", { slo: "ttft=1s,tpot=1s,attainment=90" }, "attainment is 90"],
    ["x", { slo: "ttft=1s,tpot=1s,p99=1" }, "p99 is not one of"],
    ["x", { nodes: "many" }, "--nodes many"],
    ["x", { policies: ["fast=1"] }, "fast is not one of"],
    ["x", { format: "xml" }, "--format xml"],
    ["x", { cluster: "/none.json" }, "cannot be read"],
  ] as const)
    expect(() => planRequest(trace, { ...flags, ...over })).toThrow(what);
});

test("progress: one moving line on a terminal, a line every ten seconds elsewhere, nothing at first", () => {
  const progress = { run: 3, configuration: "1 nodes: C4×tp1", multiple: 2, calls_ended: 50, calls: 100, virtual_s: 9 };
  const told = (isTTY: boolean): string => {
    let [text, now] = ["", 0];
    const line = new ProgressLine({ isTTY, columns: 60, write: (part: string) => (text += part) }, () => now);
    for (now = 0; now <= 25_000; now += 500) line.show(progress);
    line.clear();
    return text;
  };
  expect(told(false).split("\n")).toHaveLength(3);
  expect(told(false)).toContain("millrace: replay 3, 1 nodes: C4×tp1, load ×2.00: 50 of 100 calls");
  expect(told(true)).toContain("██████████░░░░░░░░░░");
  expect(told(true).endsWith("\r\x1b[2K")).toBe(true);
  // oxlint-disable-next-line no-control-regex -- it is what is looked for
  for (const shown of told(true).split(/\r\x1b\[2K/)) expect(shown.length).toBeLessThan(60);
});
