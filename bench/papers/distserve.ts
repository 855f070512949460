/**
 * DistServe (Zhong et al., OSDI 2024). Its golden value: the placement of OPT-13B on one node of 4 A100s with the highest goodput a GPU, and
 * that goodput, found by the planner's own search; first under the authors' simulator's rules, then with what they leave out, one
 * thing after the other. `node bench/papers/distserve.ts [--json FILE] [--smoke]`
 */
import type { ClusterFile } from "../../gpu-gateway/simulator/planner/cluster-file.ts";
import type { Runner } from "../../gpu-gateway/simulator/planner/measure.ts";
import { BASELINE } from "../../gpu-gateway/simulator/planner/policy-sets.ts";
import type { Slo } from "../../gpu-gateway/simulator/planner/slo.ts";
import { runCluster } from "../../gpu-gateway/simulator/cluster.ts";
import { AS_ASKED, authorsBisection, disaggregated, placed, placementsOf, search, untilPrefilled } from "./distserve-search.ts";
import { optionsOf, progress, Sheet } from "./sheet.ts";

const { json, smoke } = optionsOf();
const [CALLS, SEEDS, PROTOCOL_SEEDS] = smoke ? [600, 1, 1] : [3_000, 3, 12];
const PROTOCOL_CALLS = 300;

/** On the grid of the authors' bisection, whose next point is 1.72: the readme of their simulator prints 1.56. */
const GOLDEN = 1.5625;
const GOLDEN_WINNER = "P1×tp2 D1×tp1";
const SLO: Slo = { ttft_us: 200e3, tpot_us: 100e3, attainment: 0.9 };

const sheet = new Sheet();
const winners = new Map<string, string[]>();
const unlimited = disaggregated({ ...AS_ASKED, kv: "unlimited" });
const networked = { ...AS_ASKED, link_delay_ms: 0.25 };

for (let seed = 0; seed < PROTOCOL_SEEDS; seed++) asAuthors(seed);
const rungs: readonly (readonly [row: string, file: ClusterFile, runner: Runner])[] = [
  [`${CALLS} requests, both targets at once, bisected to 2 %`, unlimited, untilPrefilled],
  ["and an A100's memory: the planner's answer", disaggregated(AS_ASKED), untilPrefilled],
  ["and the first token when the client has it", disaggregated(networked), runCluster],
  ["and the gateway queues, by worst-case memory (its defaults)", disaggregated({ ...networked, policies: BASELINE }), runCluster],
];
for (const [row, file, runner] of smoke ? rungs.slice(1, 3) : rungs) for (let seed = 0; seed < SEEDS; seed++) rung(row, file, runner, seed);
for (const [row, all] of winners) sheet.say(row, "winner", tally(all));
progress("");
sheet.finish(
  {
    bench: "distserve",
    title: "DistServe's golden value: OPT-13B, ShareGPT's lengths, 4 A100s, TTFT 200 ms and TPOT 100 ms at 90 %",
    command: `node bench/papers/distserve.ts${smoke ? " --smoke" : ""}`,
    samples: `goodput a GPU in use; from the second row on each row adds to the one above; median (least–most) of ${PROTOCOL_SEEDS} seeds in the first row, ${SEEDS} in the others; P1×tp2 D1×tp1 is one prefill instance on 2 GPUs and one decode instance on 1`,
    not_measured: [
      "the authors' own sample of ShareGPT, which is not published: lengths are drawn from quantiles of 1,593 pairs that are",
      "DistServe's engine: its step times are the polynomials that its authors fitted to it",
    ],
  },
  json,
);

/** Nine placements, one bisection each; of equals the one on fewer GPUs. */
function asAuthors(seed: number): void {
  const rates = placementsOf(unlimited).map((placement) => ({
    configuration: placement.name.replace(/ ·.*/, ""),
    gpus: placement.gpus_used,
    per_gpu: authorsBisection(placement, SLO, PROTOCOL_CALLS, seed, untilPrefilled),
  }));
  const [best] = rates.toSorted((a, b) => b.per_gpu - a.per_gpu || a.gpus - b.gpus);
  const golden = rates.find(({ configuration }) => configuration === GOLDEN_WINNER);
  if (best === undefined || golden === undefined) throw new Error("the search space has no placement");
  note("as the authors: 300 requests, unlimited memory, their bisection", best, golden.per_gpu);
}

function rung(row: string, file: ClusterFile, runner: Runner, seed: number): void {
  // The small run looks at the golden placement alone.
  const best = search(smoke ? placed(file, { tp: 2 }, { tp: 1 }) : file, SLO, CALLS, seed, runner);
  const golden = best.configuration === GOLDEN_WINNER ? best : search(placed(file, { tp: 2 }, { tp: 1 }), SLO, CALLS, seed, runner);
  note(row, best, golden.per_gpu);
}

function note(row: string, best: { readonly configuration: string; readonly per_gpu: number }, golden: number): void {
  sheet.note(row, "TP2 → TP1", golden, "/s/GPU");
  sheet.note(row, "beside 1.56", 100 * (golden / GOLDEN - 1), "%");
  sheet.note(row, "best placement", best.per_gpu, "/s/GPU");
  winners.set(row, [...(winners.get(row) ?? []), best.configuration]);
}

/** The most frequent first. */
function tally(all: readonly string[]): string {
  const counts = [...new Set(all)].map((one) => ({ one, times: all.filter((other) => other === one).length }));
  counts.sort((a, b) => b.times - a.times || (a.one < b.one ? -1 : 1));
  return counts.map(({ one, times }) => (times === all.length ? one : `${one} (${times} of ${all.length})`)).join(", ");
}
