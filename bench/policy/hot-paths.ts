/**
 * What policies cost an event: the prefix index on long prompts, fair queues against a sorted list, routings over many instances. All in
 * one process, no engine, no socket. `node bench/policy/hot-paths.ts [--rounds N] [--json FILE]`
 */
import { parseArgs } from "node:util";
import { asId } from "../../schema/core/ids.ts";
import { micros } from "../../schema/core/time.ts";
import { keepWhatFits } from "../../gpu-gateway/policy/cache/keep-what-fits.ts";
import { prefixIndex } from "../../gpu-gateway/policy/cache/prefix-index.ts";
import { learnedTimes } from "../../gpu-gateway/policy/estimate/learned-times.ts";
import { fcfs } from "../../gpu-gateway/policy/ordering/fcfs.ts";
import { DEFAULT_SERVICE_WEIGHTS, vtc } from "../../gpu-gateway/policy/ordering/vtc.ts";
import type { InstanceView, Ordering, Routing } from "../../gpu-gateway/policy/policies.ts";
import { conductor } from "../../gpu-gateway/policy/routing/conductor.ts";
import { leastPredictedLoad } from "../../gpu-gateway/policy/routing/least-load.ts";
import { loadBalance } from "../../gpu-gateway/policy/routing/load-balance.ts";
import { seeded } from "../../gpu-gateway/policy/seeded.ts";
import type { Call, Instance, Role } from "../../gpu-gateway/policy/vocabulary.ts";
import { commit, type Figure, machine, markdown, percentile, writeFigures, type BenchFile } from "../lib/figures.ts";

const { values } = parseArgs({ options: { rounds: { type: "string", default: "5" }, json: { type: "string" } } });
const rounds = Number(values.rounds);
const MODEL = "llama-3-8b";
const BLOCK_TOKENS = 16;
const figures = new Map<string, Figure & { values: number[] }>();

function note(row: string, samples_us: readonly number[]): void {
  for (const [column, value] of [
    ["median", percentile(samples_us, 50)],
    ["p99", percentile(samples_us, 99)],
  ] as const) {
    const key = `${row} ${column}`;
    const figure = figures.get(key) ?? { row, column, unit: "µs", values: [] };
    figure.values.push(value);
    figures.set(key, figure);
  }
}

/** One sample is the mean of `each` operations: the clock is coarser than most of them. */
function time(row: string, samples: number, each: number, operation: (n: number) => void): void {
  const took_us: number[] = [];
  for (let n = 0; n < samples; n++) {
    const began_ms = performance.now();
    for (let k = 0; k < each; k++) operation(n * each + k);
    took_us.push(((performance.now() - began_ms) * 1_000) / each);
  }
  note(row, took_us);
}

const instanceOf = (id: string, role: Role): Instance => ({
  instance_id: asId<"instance">(id),
  group_id: asId<"group">(`grp_${id}`),
  node_id: asId<"node">(`node_${id.slice(-1)}`),
  model: MODEL,
  role,
  kv_compat: "v1",
  gpus: 4,
  capabilities: { legs: "prefill_first", sleep: false, sleep_while_paired: false, priority: false, kv_events: false, cancel: true },
  slots: 256,
  kv_tokens: 400_000,
  prefill_tokens_max: 16_384,
  context_tokens: 262_144,
  kv_lease: micros(30_000_000),
});
const callOf = (n: number, init: Partial<Call> = {}): Call => ({
  call_id: asId<"call">(`call_${n}`),
  tenant: asId<"tenant">(`ten_${n % 8}`),
  program: asId<"program">(`prg_${n % 64}`),
  agent: null,
  model: MODEL,
  arrived: micros(n),
  deadline: micros(900_000_000),
  prompt_tokens: 2_000,
  max_tokens: 500,
  splittable: true,
  ...init,
});
/** Prompts of one tenant's conversation begin alike. */
const prefixed = (n: number, blocks: number): Call =>
  callOf(n, {
    prompt_tokens: blocks * BLOCK_TOKENS + 1,
    prefix: {
      block_tokens: BLOCK_TOKENS,
      blocks: Array.from({ length: blocks }, (_, at) => (n % 8) * 1e9 + (at < blocks / 2 ? at : n * 1e5 + at)),
    },
  });

function benchIndex(): void {
  const guess = keepWhatFits({ prompts_per_instance_max: 4_096, tokens_per_instance_max: 400_000, block_tokens: BLOCK_TOKENS });
  const index = prefixIndex({ blocks_per_instance_max: 65_536, kv_share: 1, otherwise: guess });
  const instance = instanceOf("p1", "prefill");
  const long = Array.from({ length: 64 }, (_, n) => prefixed(n, 8_192));
  const short = Array.from({ length: 64 }, (_, n) => prefixed(n + 64, 256));
  for (const call of [...long, ...short]) index.placed(call, instance);
  const pick = (calls: readonly Call[], n: number): Call => calls[n % calls.length] ?? callOf(n);
  time("index: look up a prompt of 8,192 blocks", 500, 100, (n) => index.expected_hit_tokens(pick(long, n), instance.instance_id));
  time("index: look up a prompt of 256 blocks", 500, 100, (n) => index.expected_hit_tokens(pick(short, n), instance.instance_id));
  time("index: place a prompt of 8,192 blocks, index full", 300, 1, (n) => index.placed(pick(long, n), instance));
  time("index: place a prompt of 256 blocks, index full", 300, 10, (n) => index.placed(pick(short, n), instance));
}

function benchQueue(name: string, ordering: Ordering, tenants: number): void {
  const queue = ordering.queue<{ readonly call: Call }>(MODEL);
  const waiting = 5_000;
  let made = 0;
  const arrive = (): { readonly call: Call } => {
    made += 1;
    const item = { call: callOf(made, { tenant: asId<"tenant">(`ten_${(made * 7) % tenants}`) }) };
    queue.add(item);
    return item;
  };
  for (let n = 0; n < waiting; n++) arrive();
  const running: Call[] = [];
  const row = `${name}: ${tenants} tenants, ${waiting} waiting`;
  time(`${row}: arrive, hear one's place`, 200, 10, () => void queue.placeOf(arrive()));
  time(`${row}: take the first, tell the others`, 200, 10, () => {
    const first = queue.first();
    if (first === undefined) return;
    queue.remove(first);
    ordering.served(first.call, { type: "placed", hit_tokens: 0 });
    running.push(first.call);
    queue.visitMilestones(() => undefined);
  });
  time(`${row}: ten tokens more of an answer`, 200, 100, (n) => {
    const call = running[n % running.length];
    if (call !== undefined) ordering.served(call, { type: "output", tokens: 10 * (1 + Math.floor(n / running.length)) });
  });
  time(`${row}: a call ends`, 200, 10, () => {
    const call = running.pop();
    const usage = { prompt_tokens: 1_900, cached_tokens: 100, completion_tokens: 100 };
    if (call !== undefined) ordering.finished(call, { usage, model_time: micros(1) });
  });
}

function benchRouting(): void {
  const chance = seeded(5);
  const view = (id: string, role: Role): InstanceView => ({
    instance: instanceOf(id, role),
    state: "ready",
    legs: chance.below(100),
    reserved: 0,
    prefill_tokens: chance.below(8_000),
    prefill_due: micros(chance.below(1_000_000)),
    deferred_pulls: 0,
    kv_tokens: chance.below(200_000),
  });
  for (const count of [10, 40]) {
    const views = Array.from({ length: count }, (_, n) => view(`i${String(n).padStart(2, "0")}`, n % 3 === 0 ? "prefill" : "decode"));
    const guess = keepWhatFits({ prompts_per_instance_max: 4_096, tokens_per_instance_max: 400_000, block_tokens: BLOCK_TOKENS });
    const cache = prefixIndex({ blocks_per_instance_max: 65_536, kv_share: 1, otherwise: guess });
    const calls = Array.from({ length: 64 }, (_, n) => prefixed(n, 256));
    calls.forEach((call, n) => {
      const { instance } = views[(n * 3) % count] ?? view("x", "prefill");
      cache.placed(call, instance);
    });
    const estimates = learnedTimes({ kinds_max: 8, transfer_us: 1_000, transfer_us_per_token: 5.2 });
    const options = { cache, at_once: true, deferred_pulls_max: 16, kv_lease_margin: micros(5_000_000) };
    const routings: readonly (readonly [string, Routing])[] = [
      ["least-load", leastPredictedLoad(options)],
      ["load-balance", loadBalance(options)],
      ["conductor", conductor({ ...options, estimates, fetch_threshold: 2 })],
    ];
    for (const [name, routing] of routings)
      time(
        `route: ${name}, ${count} instances`,
        300,
        10,
        (n) => void routing.route(calls[n % calls.length] ?? callOf(n), views, micros(0)),
      );
  }
}

for (let round = -1; round < rounds; round++) {
  if (round === 0) figures.clear(); // warm
  benchIndex();
  benchQueue("fcfs", fcfs, 500);
  benchQueue("vtc", vtc({ weights: DEFAULT_SERVICE_WEIGHTS, inner: fcfs, idle_tenants_max: 4_096, models_max: 64 }), 500);
  benchRouting();
}

const file: BenchFile = {
  bench: "policy",
  title: "What policies cost an event",
  command: "node bench/policy/hot-paths.ts",
  measured_at: new Date().toISOString(),
  commit: commit(import.meta.dirname),
  machine: machine(),
  versions: { node: process.versions.node },
  rounds,
  samples_per_round: "200 to 500 samples, each the mean of 1 to 100 operations",
  figures: [...figures.values()],
  not_measured: ["the scheduler around them", "garbage collection under a real gateway's load"],
};
process.stdout.write(`${markdown(file)}\n`);
if (values.json !== undefined) writeFigures(values.json, file);
