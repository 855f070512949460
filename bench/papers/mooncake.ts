/**
 * Mooncake's conductor (Qin et al., FAST 2025) against the paper's baselines, on the paper's conversation trace: 8 prefill and 8 decode
 * instances of a Llama-70B, each on a node of 8 A100s. By itself the trace is lighter here than it was there, so it is replayed at its own rate
 * and as many times faster as gives random routing the paper's mean TTFT; what has to hold is the order.
 *
 * `node bench/papers/mooncake.ts [--trace FILE] [--json FILE] [--smoke]`. Exit status 3 when the trace is not there; `--smoke` takes a
 * generated one instead.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { spreadOf } from "../../gpu-gateway/simulator/planner/quantiles.ts";
import { READ_ALL } from "../../gpu-gateway/simulator/traces/lines.ts";
import { readTrace } from "../../gpu-gateway/simulator/traces/read.ts";
import type { OpenTrace } from "../../gpu-gateway/simulator/traces/trace.ts";
import { conversations } from "./conversations.ts";
import { CACHES, type Cache, replay, type Replayed, type RoutingName } from "./mooncake-cluster.ts";
import { optionsOf, progress, Sheet } from "./sheet.ts";

const EXIT_NO_DATA = 3;
const root = join(import.meta.dirname, "..", "..");
const options = optionsOf("trace");
const { json, smoke } = options;
const file = options.trace ?? join(root, "..", "shared", "data", "traces", "mooncake_conversation.jsonl.gz");

/** The paper's mean TTFT. */
const PAPER_S: Readonly<Record<RoutingName, number>> = { random: 19.65, "load-balance": 5.27, "local-aware": 3.58, conductor: 3.07 };
const ROUTINGS: readonly RoutingName[] = ["random", "load-balance", "local-aware", "conductor"];
const RANDOM_SEEDS = smoke ? [1] : [1, 2, 3];

const trace = smoke ? conversations(1) : await read();
const sheet = new Sheet();
for (const cache of smoke ? CACHES.slice(0, 1) : CACHES) {
  table(cache, 1, "its own rate");
  if (smoke) continue;
  const rate = rateWhereRandomTakes(PAPER_S.random, cache);
  table(cache, rate, `${rate.toFixed(2)} × its rate`);
}
progress("");
sheet.finish(
  {
    bench: "mooncake",
    title: "Routing Mooncake's conversation trace over 8 prefill and 8 decode instances of Llama-3-70B, TP 8: mean time to first token",
    command: `node bench/papers/mooncake.ts${smoke ? " --smoke" : ""}`,
    samples: `${trace.calls} calls${smoke ? ", generated" : ""}; "GPU" prefixes are kept in what GPU memory is left (${tokensOf(CACHES[0])} tokens an instance), "GPU and host" in 1 TB more, at no cost of reading it (${tokensOf(CACHES[1])}); random over ${RANDOM_SEEDS.length} seed(s), median (least–most); the paper's figures beside`,
    not_measured: [
      "how long attention over long contexts really takes: it is a roofline that no table checks, and may be up to a third too kind from 4,096 tokens on",
      "the paper's engine (chunked pipeline parallelism over nodes, layer-wise transfer) and its dummy LLaMA2-70B; the time to read host memory",
      "more than one NIC a node: 25 GB/s here, up to 100 there",
    ],
  },
  json,
);

async function read(): Promise<OpenTrace> {
  if (!existsSync(file)) {
    process.stderr.write(
      `No trace: ${file} is not there. It is public (kvcache-ai/Mooncake, FAST25-release/traces/conversation_trace.jsonl) and not part of this repository; name it with --trace FILE.\n`,
    );
    process.exit(EXIT_NO_DATA);
  }
  const found = (await readTrace(file, "mooncake", READ_ALL)).trace;
  if (found.kind !== "open") throw new Error(`${file} is not an open-loop trace`);
  return found;
}

function table(cache: Cache, rate: number, said: string): void {
  for (const routing of ROUTINGS) {
    const row = `${said}, ${cache.name}: ${routing}`;
    for (const seed of routing === "random" ? RANDOM_SEEDS : [1]) {
      const replayed = run(cache, rate, routing, seed);
      const ttft = spreadOf(replayed.ttft_s);
      if (ttft === null) throw new Error(`${row}: no call was answered`);
      sheet.note(row, "mean TTFT", ttft.mean, "s");
      if (seed === 1) sheet.note(row, "the paper's", PAPER_S[routing], "s");
      sheet.note(row, "p90", ttft.p90, "s");
      sheet.note(row, "cached", 100 * replayed.cached_share, "%");
      sheet.note(row, "prefill busy", 100 * replayed.busy, "%");
      sheet.note(row, "busiest ÷ mean", replayed.busy_most / replayed.busy, "×");
      sheet.note(row, "not answered", replayed.lost, "calls");
    }
  }
}

/** To a hundredth of the rate, by bisection. */
function rateWhereRandomTakes(seconds: number, cache: Cache): number {
  let [low, high] = [0.5, 2];
  while (high - low > 0.01) {
    const rate = (low + high) / 2;
    const mean = spreadOf(run(cache, rate, "random", 1).ttft_s)?.mean ?? Number.POSITIVE_INFINITY;
    if (mean < seconds) low = rate;
    else high = rate;
  }
  return Math.round(100 * low) / 100;
}

function run(cache: Cache, rate: number, routing: RoutingName, seed: number): Replayed {
  progress(`${cache.name}, ${rate.toFixed(3)} ×: ${routing}, seed ${seed}`);
  return replay({ trace, rate, routing, cache, seed });
}

function tokensOf(cache: Cache | undefined): string {
  return (cache?.kv_tokens ?? 0).toLocaleString("en");
}
