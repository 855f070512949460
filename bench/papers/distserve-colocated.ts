/**
 * DistServe's other question: what are prefill and decode apart worth against instances that do both? OPT-13B on one node of 4 A100s, under the
 * SLO of the paper's chatbot (TTFT 250 ms, TPOT 100 ms at 90 %) and under stricter TPOT: the paper's claim is about strict ones.
 * `node bench/papers/distserve-colocated.ts [--json FILE] [--smoke]`
 */
import { OPT_13B } from "../../gpu-gateway/engine-model/models/opt-13b.ts";
import type { ClusterFile } from "../../gpu-gateway/simulator/planner/cluster-file.ts";
import type { Runner } from "../../gpu-gateway/simulator/planner/measure.ts";
import { runCluster } from "../../gpu-gateway/simulator/cluster.ts";
import { median } from "../lib/figures.ts";
import { AS_ASKED, colocated, disaggregated, search, untilPrefilled } from "./distserve-search.ts";
import { OPT_13B_VLLM } from "./opt-13b-vllm.ts";
import { optionsOf, progress, Sheet } from "./sheet.ts";

const { json, smoke } = optionsOf();
const [CALLS, SEEDS] = smoke ? [1_000, 1] : [2_000, 2];
const TOLERANCE = smoke ? 0.1 : 0.03;
const TTFT_MS = 250;
const TPOTS_MS = smoke ? [40] : [100, 60, 40];
/** Less than this is no goodput to compare with. */
const LEAST = 0.1;

type Row = readonly [row: string, file: ClusterFile, runner: Runner];
const ours = OPT_13B.name;
const then = OPT_13B_VLLM.name;
const apart: Row = ["apart, best split; TTFT until prefilled (as the paper)", disaggregated({ ...AS_ASKED, pairs: false }), untilPrefilled];
const at_client: Row = [
  "apart, best split; TTFT at the client",
  disaggregated({ ...AS_ASKED, pairs: false, link_delay_ms: 0.25 }),
  runCluster,
];
const as_vllm: Row = ["4 × TP1, prompts first (as vLLM then)", colocated(ours, 1, "prefill_first", 2_048), runCluster];
const together: readonly Row[] = [
  ["2 × TP2, prompts first", colocated(ours, 2, "prefill_first", 2_048), runCluster],
  ["4 × TP1, prompts first, vLLM's times of 2023", colocated(then, 1, "prefill_first", 2_048), runCluster],
  ["2 × TP2, prompts first, vLLM's times of 2023", colocated(then, 2, "prefill_first", 2_048), runCluster],
  ["4 × TP1, chunks, 2,048 tokens a step", colocated(ours, 1, "chunked", 2_048), runCluster],
  ["2 × TP2, chunks, 2,048 tokens a step", colocated(ours, 2, "chunked", 2_048), runCluster],
  ["2 × TP2, chunks, 512 tokens a step", colocated(ours, 2, "chunked", 512), runCluster],
];

const sheet = new Sheet();
const rows = smoke ? [apart, as_vllm] : [apart, at_client, as_vllm, ...together];
const goodput = (tpot_ms: number): string => `goodput, TPOT ${tpot_ms} ms`;
for (const tpot_ms of TPOTS_MS)
  for (const [row, file, runner] of rows)
    for (let seed = 0; seed < SEEDS; seed++) {
      const slo = { ttft_us: TTFT_MS * 1e3, tpot_us: tpot_ms * 1e3, attainment: 0.9 };
      sheet.note(row, goodput(tpot_ms), search(file, slo, CALLS, seed, runner, TOLERANCE).per_gpu, "/s/GPU");
    }
for (const tpot_ms of TPOTS_MS) {
  const of = ([row]: Row): number => median(sheet.values(row, goodput(tpot_ms)));
  for (const row of rows) if (row !== apart && of(row) >= LEAST) sheet.note(row[0], `apart ÷ it, ${tpot_ms} ms`, of(apart) / of(row), "×");
}
progress("");
sheet.finish(
  {
    bench: "distserve-colocated",
    title: `Prefill and decode apart against together: OPT-13B, ShareGPT's lengths, 4 A100s, TTFT ${TTFT_MS} ms at 90 %`,
    command: `node bench/papers/distserve-colocated.ts${smoke ? " --smoke" : ""}`,
    samples: `goodput a GPU in use, both targets at once, ${CALLS} requests, bisected to ${100 * TOLERANCE} %; median (least–most) of ${SEEDS} seed${SEEDS === 1 ? "" : "s"}; apart is the first row, no ratio to less than ${LEAST}/s`,
    not_measured: [
      "vLLM itself: where its times of 2023 are named they are the polynomials that DistServe's authors fitted to it; all other rows have those of DistServe's engine, so that placement and batching alone make the difference",
      "steps of prompts and tokens together: DistServe's engine has none; simulation.md says how they are put together",
    ],
  },
  json,
);
