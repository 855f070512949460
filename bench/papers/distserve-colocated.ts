/**
 * DistServe's other question: what are prefill and decode apart worth against instances that do both? OPT-13B on one node of 4 A100s, under the
 * SLO of the paper's chatbot. `node bench/papers/distserve-colocated.ts [--json FILE] [--smoke]`
 */
import { OPT_13B } from "../../gpu-gateway/engine-model/models/opt-13b.ts";
import type { ClusterFile } from "../../gpu-gateway/simulator/planner/cluster-file.ts";
import type { Runner } from "../../gpu-gateway/simulator/planner/measure.ts";
import type { Slo } from "../../gpu-gateway/simulator/planner/slo.ts";
import { runCluster } from "../../gpu-gateway/simulator/cluster.ts";
import { median } from "../lib/figures.ts";
import { AS_ASKED, colocated, disaggregated, search, untilPrefilled } from "./distserve-search.ts";
import { OPT_13B_VLLM } from "./opt-13b-vllm.ts";
import { optionsOf, progress, Sheet } from "./sheet.ts";

const { json, smoke } = optionsOf();
const [CALLS, SEEDS] = smoke ? [2_000, 1] : [3_000, 3];
const SLO: Slo = { ttft_us: 250e3, tpot_us: 100e3, attainment: 0.9 };

type Row = readonly [row: string, file: ClusterFile, runner: Runner];
const apart: readonly Row[] = [
  ["apart, one instance of each; TTFT until prefilled, as the paper", disaggregated(AS_ASKED), untilPrefilled],
  ["apart, any split of the node; TTFT until prefilled", disaggregated({ ...AS_ASKED, pairs: false }), untilPrefilled],
  ["apart, any split of the node; TTFT at the client", disaggregated({ ...AS_ASKED, pairs: false, link_delay_ms: 0.25 }), runCluster],
];
const ours = OPT_13B.name;
const then = OPT_13B_VLLM.name;
const baseline: Row = [
  "4 × TP1, prompts first, vLLM's times of 2023: the paper's baseline",
  colocated(then, 1, "prefill_first", 2_048),
  runCluster,
];
const together: readonly Row[] = [
  ["2 × TP2, prompts first, vLLM's times of 2023", colocated(then, 2, "prefill_first", 2_048), runCluster],
  ["4 × TP1, prompts first", colocated(ours, 1, "prefill_first", 2_048), runCluster],
  ["2 × TP2, prompts first", colocated(ours, 2, "prefill_first", 2_048), runCluster],
  ["4 × TP1, chunks, 512 tokens a step", colocated(ours, 1, "chunked", 512), runCluster],
  ["2 × TP2, chunks, 512 tokens a step", colocated(ours, 2, "chunked", 512), runCluster],
  ["4 × TP1, chunks, 2,048 tokens a step", colocated(ours, 1, "chunked", 2_048), runCluster],
  ["2 × TP2, chunks, 2,048 tokens a step", colocated(ours, 2, "chunked", 2_048), runCluster],
];

const sheet = new Sheet();
const rows = smoke ? [...apart.slice(0, 1), baseline] : [...apart, baseline, ...together];
for (const [row, file, runner] of rows)
  for (let seed = 0; seed < SEEDS; seed++) {
    const found = search(file, SLO, CALLS, seed, runner, smoke ? 0.1 : 0.02);
    sheet.note(row, "goodput", found.per_gpu, "/s/GPU");
    if (seed === 0) sheet.say(row, "placement", found.configuration);
  }
const of = ([row]: Row): number => median(sheet.values(row, "goodput"));
for (const row of rows) sheet.note(row[0], "÷ the paper's baseline", of(row) / of(baseline), "×");
progress("");
sheet.finish(
  {
    bench: "distserve-colocated",
    title: "Prefill and decode apart against together: OPT-13B, ShareGPT's lengths, 4 A100s, TTFT 250 ms and TPOT 100 ms at 90 %",
    command: `node bench/papers/distserve-colocated.ts${smoke ? " --smoke" : ""}`,
    samples: `goodput a GPU in use, ${CALLS} requests; median (least–most) of ${SEEDS} seed${SEEDS === 1 ? "" : "s"}; the placement is the first seed's`,
    not_measured: [
      "vLLM itself: where its times of 2023 are named they are the polynomials that DistServe's authors fitted to it; all other rows have those of DistServe's engine, so that placement and batching alone make the difference",
      "steps of prompts and tokens together: DistServe's engine has none; simulation.md says how they are put together",
    ],
  },
  json,
);
