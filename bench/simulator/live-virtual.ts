/**
 * Live against virtual. A gateway with two prefill and two decode instances (simulated A100s, each a process, at speed 1) serves a seeded
 * workload over sockets and records its decisions. Then
 *  - another process decides the recording again: the same digest, and another with one constant altered;
 *  - the virtual cluster serves the same calls, each at the instant at which it reached the gateway: its times beside the client's.
 * The virtual cluster's two constants, the links' delay and how late a step is heard of, are measured while the live run is on.
 *
 * `node bench/simulator/live-virtual.ts [--rounds N] [--calls N] [--rate CALLS_PER_S] [--seed N] [--case A|B] [--json FILE] [--keep DIR]`
 * Exit 1: a digest was not as it should be, or TTFT p50, in the median of the rounds, was off by more than 5 %.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { commit, machine, markdown, median, writeFigures, type BenchFile } from "../lib/figures.ts";
import { root, startGatewayOf } from "../lib/world.ts";
import { sendAll, type Heard } from "./live/client.ts";
import { compare } from "./live/compare.ts";
import { measureLink, type Link } from "./live/link.ts";
import { readRecording } from "./live/recorded.ts";
import { runVirtually } from "./live/virtual.ts";
import { workload } from "./live/workload.ts";

const MODEL = "llama-3-8b";
const REPLAY = join(root, "gpu-gateway/simulator/replay/main.ts");
const ALTERED = "deferred_pulls_max=1";
const TTFT_OFF_MAX = 0.05;

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    calls: { type: "string", default: "200" },
    rate: { type: "string", default: "4" },
    seed: { type: "string", default: "1" },
    case: { type: "string" },
    json: { type: "string" },
    keep: { type: "string" },
  },
});
type Case = { readonly policies: object; readonly shared_one_in: number };
const CASES: Readonly<Record<string, Case>> = {
  A: { policies: {}, shared_one_in: 0 },
  B: { policies: { routing: "local-aware", ordering: "vtc", cache: "prefix-index" }, shared_one_in: 3 },
};

const say = (line: string): void => void process.stderr.write(`${line}\n`);
const faults: string[] = [];
const figures: { row: string; column: string; unit: string; values: number[] }[] = [];
function note(row: string, column: string, value: number, unit = ""): void {
  const found = figures.find((figure) => figure.row === row && figure.column === column);
  if (found) found.values.push(value);
  else figures.push({ row, column, unit, values: [value] });
}

const dir = values.keep ?? mkdtempSync(join(tmpdir(), "millrace-live-"));
mkdirSync(dir, { recursive: true });
try {
  for (let round = 0; round < Number(values.rounds); round++)
    for (const [name, one] of Object.entries(CASES)) if (values.case === undefined || values.case === name) await measure(name, one, round);
} finally {
  if (values.keep === undefined) rmSync(dir, { recursive: true, force: true });
}
report();

async function measure(name: string, { policies, shared_one_in }: Case, round: number): Promise<void> {
  const file = join(dir, `${name}-${round + 1}.jsonl`);
  const { heard, link } = await serve(file, policies, {
    calls: Number(values.calls),
    per_second: Number(values.rate),
    seed: Number(values.seed) + round,
    shared_one_in,
  });
  decideAgain(name, file);
  const recorded = readRecording(file);
  const delays = { link_us: Math.round(link.request_ms * 500), notice_us: Math.round(link.timer_late_ms * 1_000) };
  const { rows, told_alike, placed_alike } = compare(recorded, heard, runVirtually(recorded, delays));
  for (const row of rows) {
    const title = `${name}: ${row.name}`;
    note(title, "live p50", row.live_p50_ms, "ms");
    note(title, "virtual p50", row.virtual_p50_ms, "ms");
    note(title, "virtual ÷ live, p50", row.p50_ratio);
    note(title, "virtual ÷ live, p95", row.p95_ratio);
    note(title, "a call is off by, p50", row.off_p50_ms, "ms");
    note(title, "a call is off by, p95", row.off_p95_ms, "ms");
  }
  note(`${name}: calls of which the scheduler was told alike`, "", told_alike * 100, "%");
  note(`${name}: calls placed alike`, "", placed_alike * 100, "%");
  note(`${name}: links' delay, one way`, "", delays.link_us / 1_000, "ms");
  note(`${name}: a step is heard of late by`, "", link.timer_late_ms, "ms");
  note(`${name}: load average after the round`, "", loadavg()[0] ?? 0);
}

type Served = { readonly heard: readonly Heard[]; readonly link: Link };

async function serve(file: string, policies: object, load: Parameters<typeof workload>[0]): Promise<Served> {
  const world = await startGatewayOf({
    gpus: 4,
    engines: { a100: { kind: "simulated", speed: 1, args: ["--load-ms", "0"] } },
    pools: (["prefill", "decode"] as const).map((role) => ({ model: MODEL, role, groups: 2, gpus: 1, engine: "a100" })),
    more: { policies, record_decisions: file },
    first_call: { path: "/v1/completions", body: { model: MODEL, prompt: "four chars are one token", max_tokens: 16 } },
  });
  try {
    const measured = await measureLink();
    const heard = await sendAll(workload(load), { url: world.gateway_url, key: world.key, model: MODEL }).catch(async (error: unknown) => {
      await measured();
      throw error;
    });
    return { heard, link: await measured() };
  } finally {
    await world.stop();
  }
}

function decideAgain(name: string, file: string): void {
  const replay = (...more: string[]) => spawnSync(process.execPath, [REPLAY, file, ...more], { encoding: "utf8" });
  const [again, altered] = [replay(), replay("--alter", ALTERED)];
  say(`${name}: ${again.stdout}${again.stderr}${name}, ${ALTERED}: ${altered.stdout}${altered.stderr}`);
  if (again.status !== 0) faults.push(`${name}: decided again, exit code ${again.status}`);
  if (altered.status !== 1) faults.push(`${name}: decided again with ${ALTERED}, exit code ${altered.status}`);
  note(`${name}: decided again in another process, the same digest`, "", again.status === 0 ? 100 : 0, "%");
  note(`${name}: with ${ALTERED}, another`, "", altered.status === 1 ? 100 : 0, "%");
}

function report(): void {
  const bench: BenchFile = {
    bench: "live-virtual",
    title: "Live against virtual",
    command: "node bench/simulator/live-virtual.ts",
    measured_at: new Date().toISOString(),
    commit: commit(root),
    machine: machine(),
    versions: { node: process.versions.node },
    rounds: Number(values.rounds),
    samples_per_round: `${values.calls} calls at ${values.rate}/s in each case`,
    figures,
    not_measured: ["real GPUs: both sides run the same engine model, one in real time behind sockets, one in virtual time"],
  };
  process.stdout.write(`${markdown(bench)}\n`);
  if (values.json !== undefined) writeFigures(values.json, bench);
  for (const { row, column, values: ratios } of figures) {
    const off = Math.abs(median(ratios) - 1);
    if (row.endsWith(": TTFT") && column === "virtual ÷ live, p50" && off > TTFT_OFF_MAX)
      faults.push(`${row}: p50 is off by ${(off * 100).toFixed(1)} %`);
  }
  for (const fault of faults) say(`live-virtual: ${fault}`);
  if (faults.length > 0) process.exitCode = 1;
}
