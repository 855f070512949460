/**
 * DistServe (Zhong et al., OSDI 2024). Its golden value: the placement of OPT-13B on one node of 4 A100s with the highest goodput a GPU, and that
 * goodput, found by the planner's own search; then what separating prefill from decode is worth against instances that do both.
 *
 * `node bench/papers/distserve.ts [--json FILE.json] [--smoke]`: two tables, FILE.json and FILE-colocated.json.
 */
import { OPT_13B } from "../../gpu-gateway/engine-model/models/opt-13b.ts";
import type { ClusterFile } from "../../gpu-gateway/simulator/planner/cluster-file.ts";
import type { Runner } from "../../gpu-gateway/simulator/planner/measure.ts";
import { BASELINE } from "../../gpu-gateway/simulator/planner/policy-sets.ts";
import type { Slo } from "../../gpu-gateway/simulator/planner/slo.ts";
import { runCluster } from "../../gpu-gateway/simulator/cluster.ts";
import { median } from "../lib/figures.ts";
import {
  authorsBisection,
  colocated,
  disaggregated,
  ENGINES_QUEUE,
  placementsOf,
  placed,
  search,
  untilPrefilled,
} from "./distserve-search.ts";
import { OPT_13B_VLLM } from "./opt-13b-vllm.ts";
import { optionsOf, partOf, progress, Sheet } from "./sheet.ts";

const { json, smoke } = optionsOf();
const [CALLS, SEEDS, PROTOCOL_SEEDS] = smoke ? [300, 1, 1] : [3_000, 3, 12];

/** 10/64 of 10: the bisection's grid. The authors' readme prints 1.56; the true value lies between it and the next point, 1.72. */
const GOLDEN = 1.5625;
const GOLDEN_WINNER = "P1×tp2 D1×tp1";
const GOLDEN_SLO: Slo = { ttft_us: 200e3, tpot_us: 100e3, attainment: 0.9 };
/** Of the paper's chatbot experiment. */
const CHATBOT_SLO: Slo = { ttft_us: 250e3, tpot_us: 100e3, attainment: 0.9 };

const asked = { kv: "a100", policies: ENGINES_QUEUE, link_delay_ms: 0, pairs: true } as const;
const unlimited = disaggregated({ ...asked, kv: "unlimited" });

golden();
againstColocated();

function golden(): void {
  const sheet = new Sheet();
  const note = (row: string, found: { readonly winner: string; readonly best: number; readonly golden: number }) => {
    sheet.note(row, "TP2 → TP1", found.golden, "/s/GPU");
    sheet.note(row, "beside 1.56", 100 * (found.golden / GOLDEN - 1), "%");
    sheet.note(row, "best placement", found.best, "/s/GPU");
    winners.set(row, [...(winners.get(row) ?? []), found.winner]);
  };
  const winners = new Map<string, string[]>();

  for (let seed = 0; seed < PROTOCOL_SEEDS; seed++) {
    const rates = placementsOf(unlimited).map((pair) => ({
      winner: pair.name.replace(/ ·.*/, ""),
      gpus: pair.gpus_used,
      best: authorsBisection(pair, GOLDEN_SLO, 300, seed, untilPrefilled),
    }));
    const [best] = rates.toSorted((a, b) => b.best - a.best || a.gpus - b.gpus);
    const at_golden = rates.find(({ winner }) => winner === GOLDEN_WINNER)?.best ?? 0;
    if (best !== undefined) note("as the authors: 300 requests, memory without end, their bisection", { ...best, golden: at_golden });
  }
  const networked = { ...asked, link_delay_ms: 0.25 };
  const rungs: readonly (readonly [row: string, file: ClusterFile, runner: Runner])[] = [
    [`${CALLS} requests, both targets at once, bisected to 2 %`, unlimited, untilPrefilled],
    ["and an A100's memory", disaggregated(asked), untilPrefilled],
    ["and several instances of a role", disaggregated({ ...asked, pairs: false }), untilPrefilled],
    ["an A100's memory; the first token when the client has it", disaggregated(networked), runCluster],
    ["and the gateway queues, by worst-case memory (its defaults)", disaggregated({ ...networked, policies: BASELINE }), runCluster],
  ];
  for (const [row, file, runner] of rungs)
    for (let seed = 0; seed < SEEDS; seed++) {
      const { configuration, per_gpu } = search(file, GOLDEN_SLO, CALLS, seed, runner);
      const alone = search(placed(file, { tp: 2 }, { tp: 1 }), GOLDEN_SLO, CALLS, seed, runner);
      note(row, { winner: configuration, best: Math.max(per_gpu, alone.per_gpu), golden: alone.per_gpu });
    }
  for (const [row, all] of winners) sheet.say(row, "winner", tally(all));
  progress("");
  sheet.finish(
    {
      bench: "distserve",
      title: "DistServe's golden value: OPT-13B, ShareGPT's lengths, 4 A100s, TTFT 200 ms and TPOT 100 ms at 90 %",
      command: `node bench/papers/distserve.ts${smoke ? " --smoke" : ""}`,
      samples: `goodput a GPU in use; each row changes one thing and keeps the rest; median (least–most) of ${PROTOCOL_SEEDS} seeds in the first row, ${SEEDS} in the others; P prefill, D decode`,
      not_measured: [
        "the authors' own sample of ShareGPT, which is not published: lengths are drawn from quantiles of 1,593 pairs that are",
        "DistServe's engine: its step times are the polynomials that its authors fitted to it",
      ],
    },
    json,
  );
}

function againstColocated(): void {
  const sheet = new Sheet();
  const apart = { ...asked, pairs: false };
  const ours = OPT_13B.name;
  const then = OPT_13B_VLLM.name;
  const rows: readonly (readonly [row: string, file: ClusterFile, runner: Runner])[] = [
    ["apart, best placement; TTFT until prefilled, as the paper", disaggregated(apart), untilPrefilled],
    ["apart, best placement; TTFT at the client", disaggregated({ ...apart, link_delay_ms: 0.25 }), runCluster],
    ["4 × TP1, prompts first, vLLM's times of 2023 (the paper's baseline)", colocated(then, 1, "prefill_first", 2_048), runCluster],
    ["2 × TP2, prompts first, vLLM's times of 2023", colocated(then, 2, "prefill_first", 2_048), runCluster],
    ["4 × TP1, prompts first", colocated(ours, 1, "prefill_first", 2_048), runCluster],
    ["2 × TP2, prompts first", colocated(ours, 2, "prefill_first", 2_048), runCluster],
    ["4 × TP1, chunks, 512 tokens a step", colocated(ours, 1, "chunked", 512), runCluster],
    ["2 × TP2, chunks, 512 tokens a step", colocated(ours, 2, "chunked", 512), runCluster],
    ["4 × TP1, chunks, 2,048 tokens a step", colocated(ours, 1, "chunked", 2_048), runCluster],
    ["2 × TP2, chunks, 2,048 tokens a step", colocated(ours, 2, "chunked", 2_048), runCluster],
  ];
  for (const [row, file, runner] of rows)
    for (let seed = 0; seed < SEEDS; seed++) sheet.note(row, "goodput", search(file, CHATBOT_SLO, CALLS, seed, runner).per_gpu, "/s/GPU");
  const [paper, client] = rows.map(([row]) => median(sheet.values(row, "goodput")));
  for (const [row] of rows.slice(2)) {
    const its = median(sheet.values(row, "goodput"));
    sheet.note(row, "apart ÷ it, as the paper", (paper ?? 0) / its, "×");
    sheet.note(row, "apart ÷ it, at the client", (client ?? 0) / its, "×");
  }
  progress("");
  sheet.finish(
    {
      bench: "distserve-colocated",
      title: "Prefill and decode apart against together: OPT-13B, ShareGPT's lengths, 4 A100s, TTFT 250 ms and TPOT 100 ms at 90 %",
      command: `node bench/papers/distserve.ts${smoke ? " --smoke" : ""}`,
      samples: `goodput a GPU in use, ${CALLS} requests; median (least–most) of ${SEEDS} seed${SEEDS === 1 ? "" : "s"}`,
      not_measured: [
        "vLLM of 2023 but by the step times that DistServe's authors fitted to it; rows that name none have those of DistServe's engine, so that what differs is the placement alone",
        "steps of prompts and tokens together: DistServe measured none; see simulation.md for how they are put together",
      ],
    },
    partOf(json, "colocated"),
  );
}

/** The most frequent first. */
function tally(all: readonly string[]): string {
  const counts = [...new Set(all)].map((one) => ({ one, times: all.filter((other) => other === one).length }));
  counts.sort((a, b) => b.times - a.times || (a.one < b.one ? -1 : 1));
  return counts.map(({ one, times }) => (times === all.length ? one : `${one} (${times} of ${all.length})`)).join(", ");
}
