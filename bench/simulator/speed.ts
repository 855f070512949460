/**
 * How fast virtual time passes, on one core: every engine step an event, the real scheduler deciding, nothing observed. Each run is a
 * process of its own with a heap of at most 1 GiB. `node bench/simulator/speed.ts [--rounds N] [--trace FILE] [--json FILE]`
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { micros } from "../../schema/core/time.ts";
import { baselinePolicies } from "../../gpu-gateway/policy/defaults.ts";
import type { Role } from "../../gpu-gateway/policy/vocabulary.ts";
import { runCluster } from "../../gpu-gateway/simulator/cluster.ts";
import { openLoop } from "../../gpu-gateway/simulator/traces/open-loop.ts";
import { READ_ALL } from "../../gpu-gateway/simulator/traces/lines.ts";
import { readTrace } from "../../gpu-gateway/simulator/traces/read.ts";
import { OpenTrace } from "../../gpu-gateway/simulator/traces/trace.ts";
import type { Clients, ClusterSpec, PoolSpec } from "../../gpu-gateway/simulator/types.ts";
import { commit, machine, markdown, writeFigures, type BenchFile } from "../lib/figures.ts";

const HEAP_MIB = 1_024;
const SECOND = 1_000_000;
const MODEL = "llama-3-70b";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    trace: { type: "string", default: "../shared/data/traces/mooncake_conversation.jsonl.gz" },
    case: { type: "string" },
    json: { type: "string" },
  },
});

type Measured = {
  readonly wall_s: number;
  readonly processor_s: number;
  readonly tokens: number;
  readonly steps: number;
  readonly events: number;
  readonly rss_mib: number;
  readonly done: number;
  readonly calls: number;
  readonly virtual_s: number;
};

const pool = (role: Role, instances: number): PoolSpec => ({
  model: MODEL,
  role,
  instances,
  tp: 4,
  pp: 1,
  slots: 256,
  step_tokens: 2_048,
  prefill_tokens_max: 65_536,
  kv_tokens: null,
  context_tokens: 131_072,
  kv_lease: micros(30 * SECOND),
});
const cluster = (pools: readonly PoolSpec[]): ClusterSpec => ({
  name: "10 nodes of 4 A100",
  nodes: 10,
  gpus_per_node: 4,
  pools,
  all_reduce: "nccl",
  link_delay: micros(250),
});
const shape = { model: MODEL, context_tokens: 131_072, patience: micros(3_600 * SECOND) };

/** 1,000 tokens in, 400 out, nothing shared. */
function uniform(calls: number, per_second: number): Clients {
  const trace = new OpenTrace(0);
  for (let n = 0; n < calls; n++)
    trace.push({
      at_us: Math.round((n * SECOND) / per_second),
      prompt_tokens: 1_000,
      output_tokens: 400,
      tenant: "bench",
      program: null,
      agent: null,
      blocks: [],
    });
  return openLoop(trace, 1, shape);
}

const CASES: Readonly<Record<string, { readonly spec: ClusterSpec; readonly clients: () => Promise<Clients> }>> = {
  "colocated, 20 calls/s": { spec: cluster([pool("both", 10)]), clients: async () => uniform(10_000, 20) },
  "prefill 4 + decode 6, 12 calls/s": { spec: cluster([pool("prefill", 4), pool("decode", 6)]), clients: async () => uniform(10_000, 12) },
  "Mooncake's hour, prefill 6 + decode 4": {
    spec: cluster([pool("prefill", 6), pool("decode", 4)]),
    clients: async () => {
      const { trace } = await readTrace(values.trace, "mooncake", READ_ALL);
      if (trace.kind !== "open") throw new Error("not an open-loop trace");
      return openLoop(trace, 1, shape);
    },
  },
};

if (values.case !== undefined) {
  process.stdout.write(`${JSON.stringify(await measure(values.case))}\n`);
} else {
  const figures: { row: string; column: string; unit: string; values: number[] }[] = [];
  const note = (row: string, column: string, unit: string, value: number): void => {
    const found = figures.find((figure) => figure.row === row && figure.column === column);
    if (found) found.values.push(value);
    else figures.push({ row, column, unit, values: [value] });
  };
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const name of Object.keys(CASES)) {
      if (name.startsWith("Mooncake") && !existsSync(values.trace)) {
        process.stderr.write(`no trace at ${values.trace}: ${name} is left out (--trace FILE)\n`);
        continue;
      }
      const measured = apart(name);
      if (measured.done !== measured.calls) throw new Error(`${name}: only ${measured.done} of ${measured.calls} calls were done`);
      note(name, "wall", "s", measured.wall_s);
      note(name, "processor", "s", measured.processor_s);
      note(name, "output tokens", "", measured.tokens);
      note(name, "tokens a second of wall", "", measured.tokens / measured.wall_s);
      note(name, "engine steps", "", measured.steps);
      note(name, "scheduler events", "", measured.events);
      note(name, "virtual", "s", measured.virtual_s);
      note(name, "memory, peak", "MiB", measured.rss_mib);
    }
  }
  const file: BenchFile = {
    bench: "simulator-speed",
    title: "How fast virtual time passes",
    command: "node bench/simulator/speed.ts --json FILE",
    measured_at: new Date().toISOString(),
    commit: commit(path.join(import.meta.dirname, "..", "..")),
    machine: machine(),
    versions: { node: process.version },
    rounds: Number(values.rounds),
    samples_per_round: "one run of each case, in a process of its own",
    figures,
    not_measured: [
      "reading the trace is outside of the time",
      "observers: records, checkers and recordings cost what they do with each event",
    ],
  };
  process.stdout.write(`${markdown(file)}\n`);
  if (values.json !== undefined) writeFigures(values.json, file);
}

function apart(name: string): Measured {
  const args = [`--max-old-space-size=${HEAP_MIB}`, fileURLToPath(import.meta.url), "--case", name, "--trace", values.trace];
  const child = spawnSync(process.execPath, args, { encoding: "utf8" });
  if (child.status !== 0) throw new Error(`${name}: ${child.stderr}`);
  return JSON.parse(child.stdout) as Measured;
}

async function measure(name: string): Promise<Measured> {
  const found = CASES[name];
  if (found === undefined) throw new Error(`no case ${name}`);
  const { spec } = found;
  const clients = await found.clients();
  const targets = spec.pools.map(({ model, role, instances }) => ({ model, role, groups: instances }));
  const before = process.cpuUsage();
  const began = performance.now();
  const result = runCluster({
    cluster: spec,
    policies: baselinePolicies({ scope: "bench", targets, queued_per_model_max: 100_000 }),
    clients,
    seed: 1,
  });
  const wall_s = (performance.now() - began) / 1_000;
  const { user, system } = process.cpuUsage(before);
  return {
    wall_s,
    processor_s: (user + system) / SECOND,
    tokens: result.output_tokens,
    steps: result.engine_steps,
    events: result.scheduler_events,
    rss_mib: process.resourceUsage().maxRSS / 1_024,
    done: result.calls.filter(({ outcome }) => outcome.type === "done").length,
    calls: result.calls.length,
    virtual_s: result.virtual / SECOND,
  };
}
