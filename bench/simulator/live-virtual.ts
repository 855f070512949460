/**
 * Live against virtual. A gateway with two prefill and two decode instances (simulated A100s, each a process, at speed 1) serves a seeded
 * workload over sockets and records its decisions. Then
 *  - another process decides the recording again: the same digest, and another with one constant altered;
 *  - the virtual cluster serves the same calls, each at the instant at which it reached the gateway: its times beside the client's.
 *
 * `node bench/simulator/live-virtual.ts [--rounds N] [--calls N] [--rate CALLS_PER_S] [--seed N] [--case NAME] [--json FILE] [--keep DIR]`
 * Exit 1: a digest was not as it should be, or TTFT p50 was off by more than 5 %.
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { CallTimes } from "../../gpu-gateway/simulator/types.ts";
import { commit, machine, markdown, median, percentile, writeFigures, type BenchFile } from "../lib/figures.ts";
import { root, startGatewayOf } from "../lib/world.ts";
import { sendAll, type Heard } from "./live/client.ts";
import { measureLink, type Link } from "./live/link.ts";
import { readRecording, type ToldCall } from "./live/recorded.ts";
import { runVirtually, type Delays } from "./live/virtual.ts";
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
  "least-load, fcfs": { policies: {}, shared_one_in: 0 },
  "local-aware, vtc, prefix-index; a third of the prompts share a beginning": {
    policies: { routing: "local-aware", ordering: "vtc", cache: "prefix-index" },
    shared_one_in: 3,
  },
};

const figures: { row: string; column: string; unit: string; values: number[] }[] = [];
const note = (row: string, column: string, value: number, unit = ""): void => {
  const found = figures.find((figure) => figure.row === row && figure.column === column);
  if (found) found.values.push(value);
  else figures.push({ row, column, unit, values: [value] });
};
const say = (line: string): void => void process.stderr.write(`${line}\n`);

const faults: string[] = [];
const dir = mkdtempSync(join(tmpdir(), "millrace-live-"));
async function measure(name: string, { policies, shared_one_in }: Case, round: number): Promise<void> {
  const file = join(dir, `${round}-${name.replaceAll(/[^a-z]+/g, "-")}.jsonl`);
  const calls = workload({
    calls: Number(values.calls),
    per_second: Number(values.rate),
    seed: Number(values.seed) + round,
    shared_one_in,
  });
  const world = await startGatewayOf({
    gpus: 4,
    engines: { a100: { kind: "simulated", speed: 1, args: ["--load-ms", "0"] } },
    pools: (["prefill", "decode"] as const).map((role) => ({ model: MODEL, role, groups: 2, gpus: 1, engine: "a100" })),
    more: { policies, record_decisions: file },
    first_call: { path: "/v1/completions", body: { model: MODEL, prompt: "four chars are one token", max_tokens: 16 } },
  });
  const measured = await measureLink();
  let heard: Heard[];
  let link: Link;
  try {
    heard = await sendAll(calls, { url: world.gateway_url, key: world.key, model: MODEL });
  } finally {
    link = await measured();
    await world.stop();
  }
  if (values.keep !== undefined) {
    mkdirSync(values.keep, { recursive: true });
    copyFileSync(file, join(values.keep, `${round}-${name.replaceAll(/[^a-z]+/g, "-")}.jsonl`));
    writeFileSync(join(values.keep, `${round}-heard.json`), JSON.stringify({ link, heard }));
  }
  checkReplay(name, file);
  compare(name, file, heard, { link_us: Math.round(link.request_ms * 500), notice_us: Math.round(link.timer_late_ms * 1_000) });
  note(name, "link_delay", link.request_ms / 2, "ms");
  note(name, "round trip of nothing", link.nothing_ms, "ms");
  note(name, "a timer's lateness", link.timer_late_ms, "ms");
  note(name, "load average", loadavg()[0] ?? 0);
}

function checkReplay(name: string, file: string): void {
  const again = spawnSync(process.execPath, [REPLAY, file], { encoding: "utf8" });
  say(`${name}: ${again.stdout.trim().split("\n").join("; ")}${again.stderr}`);
  if (again.status !== 0) faults.push(`${name}: replayed with exit code ${again.status}`);
  const altered = spawnSync(process.execPath, [REPLAY, file, "--alter", ALTERED], { encoding: "utf8" });
  say(altered.stdout.trim());
  if (altered.status !== 1) faults.push(`${name}: with ${ALTERED} replayed with exit code ${altered.status}`);
  note(name, "same digest", again.status === 0 ? 1 : 0);
  note(name, `another with ${ALTERED}`, altered.status === 1 ? 1 : 0);
}

const since = ({ arrived }: CallTimes, at: number | null): number => ((at ?? Number.NaN) - arrived) / 1_000;

type Pair = { readonly live: Heard; readonly virtual: CallTimes; readonly told: ToldCall; readonly told_virtually: ToldCall };

function compare(name: string, file: string, heard: readonly Heard[], delays: Delays): void {
  const recorded = readRecording(file);
  const { result, told } = runVirtually(recorded, delays);
  const virtual = new Map(result.calls.map((times) => [times.call.call_id as string, times]));
  const pairs = heard.map((live): Pair => {
    const [times, of_live, of_virtual] = [virtual.get(live.call_id), recorded.calls.get(live.call_id), told.get(live.call_id)];
    if (times?.first_token == null || of_live === undefined || of_virtual === undefined)
      throw new Error(`call ${live.call_id} was not served`);
    return { live, virtual: times, told: of_live, told_virtually: of_virtual };
  });
  const times: readonly [string, (pair: Pair) => number, (pair: Pair) => number][] = [
    ["TTFT", ({ live }) => live.ttft_ms, ({ virtual: v }) => since(v, v.first_token)],
    [
      "TPOT",
      ({ live }) => (live.last_ms - live.ttft_ms) / Math.max(1, live.tokens - 1),
      ({ virtual: v }) => (since(v, v.last_token) - since(v, v.first_token)) / Math.max(1, v.output_tokens - 1),
    ],
    ["end to end", ({ live }) => live.e2e_ms, ({ virtual: v }) => since(v, v.ended)],
  ];
  for (const [what, of_live, of_virtual] of times) {
    const [a, b] = [pairs.map(of_live), pairs.map(of_virtual)];
    const row = `${name}: ${what}`;
    note(row, "live p50", median(a), "ms");
    note(row, "virtual p50", median(b), "ms");
    note(row, "virtual ÷ live, p50", median(b) / median(a));
    note(row, "virtual ÷ live, p95", percentile(b, 95) / percentile(a, 95));
    note(row, "a call is off by, median", median(pairs.map((pair) => Math.abs(of_virtual(pair) - of_live(pair)))), "ms");
    const off = Math.abs(median(b) / median(a) - 1);
    if (what === "TTFT" && off > TTFT_OFF_MAX) faults.push(`${name}: TTFT p50 is off by ${(off * 100).toFixed(1)} %`);
  }
  stages(pairs);
  const alike = pairs.filter(({ told: a, told_virtually: b }) => a.kinds.join() === b.kinds.join()).length;
  note(name, "calls told of alike", alike / pairs.length);
}

/** Where the time to the first token goes, at the gateway: medians, live and virtual. */
function stages(pairs: readonly Pair[]): void {
  const order = ["call_arrived", "prefill leg_finished", "decode leg_accepted", "decode leg_first_token", "decode leg_finished"];
  for (let n = 1; n < order.length; n++) {
    const [from = "", to = ""] = [order[n - 1], order[n]];
    const took = ({ at }: ToldCall) => ((at.get(to) ?? Number.NaN) - (at.get(from) ?? Number.NaN)) / 1_000;
    const [a, b] = [pairs.map(({ told }) => took(told)), pairs.map(({ told_virtually }) => took(told_virtually))];
    say(
      `${from} → ${to}: live ${median(a).toFixed(2)} ms, virtual ${median(b).toFixed(2)} ms, off by ${median(pairs.map((_, i) => (a[i] ?? 0) - (b[i] ?? 0))).toFixed(2)}`,
    );
  }
  const client = pairs.map(
    ({ live, told }) => live.ttft_ms - ((told.at.get("decode leg_first_token") ?? 0) - (told.at.get("call_arrived") ?? 0)) / 1_000,
  );
  say(
    `client's TTFT less the gateway's: ${median(client).toFixed(2)} ms; sent late by ${median(pairs.map(({ live }) => live.late_ms)).toFixed(2)} ms`,
  );
  const kinds = new Map<string, number>();
  for (const { told, told_virtually } of pairs)
    for (const [who, one] of [
      ["live", told],
      ["virtual", told_virtually],
    ] as const) {
      const key = `${who}: ${one.kinds.join(", ")}`;
      kinds.set(key, (kinds.get(key) ?? 0) + 1);
    }
  for (const [key, count] of kinds) say(`${count} × ${key}`);
}

try {
  for (let round = 0; round < Number(values.rounds); round++)
    for (const [name, one] of Object.entries(CASES))
      if (values.case === undefined || name.includes(values.case)) await measure(name, one, round);
} finally {
  rmSync(dir, { recursive: true, force: true });
}

const bench: BenchFile = {
  bench: "live-virtual",
  title: "Live against virtual",
  command: "node bench/simulator/live-virtual.ts",
  measured_at: new Date().toISOString(),
  commit: commit(root),
  machine: machine(),
  versions: { node: process.versions.node },
  rounds: Number(values.rounds),
  samples_per_round: `${values.calls} calls, ${values.rate}/s`,
  figures,
  not_measured: ["real GPUs: both sides run the engine model of docs/simulation.md, one in real time behind sockets, one in virtual time"],
};
process.stdout.write(`${markdown(bench)}\n`);
if (values.json !== undefined) writeFigures(values.json, bench);
for (const fault of faults) say(`live-virtual: ${fault}`);
if (faults.length > 0) process.exitCode = 1;
