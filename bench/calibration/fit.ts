/**
 * The engine model's coefficients, fitted from the public calibration tables, and how far what engine-model carries is from those tables.
 *
 * `node bench/calibration/fit.ts [--data DIR] [--json FILE.json] [--print]`
 *
 * Three tables: the fit (FILE.json), each operator (FILE-operators.json), Splitwise's measurements (FILE-splitwise.json). DIR holds the tables (default ../shared/data/calibration beside the repository). Exit status: 0; 1 when engine-model carries other
 * coefficients than the fit gives (`--print` shows those); 3 when the tables are not there.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ALL_REDUCE_US, SEND_RECV_US } from "../../gpu-gateway/engine-model/collective.ts";
import { MODELS, mustProfile, prefillPairs, stepUs } from "../../gpu-gateway/engine-model/profile.ts";
import { commit, machine, markdown, median, percentile, writeFigures, type BenchFile, type Figure } from "../lib/figures.ts";
import {
  ALL_REDUCE_GROUPS,
  DEGREES,
  LLAMAS,
  SEND_RECV_GROUPS,
  collectiveTable,
  denseTable,
  fitCollective,
  fitDense,
  type LlamaName,
} from "./coefficients.ts";
import { opt, type DistserveFile } from "./distserve.ts";
import { errors, heights, type Point } from "./piecewise.ts";
import { splitwiseCases } from "./splitwise.ts";
import { OPERATORS, layerUs, missing, readDistserve, readTable } from "./tables.ts";

const root = join(import.meta.dirname, "..", "..");
const EXIT_DIFFERENT = 1;
const EXIT_NO_DATA = 3;

const { values } = parseArgs({
  options: {
    data: { type: "string", default: join(root, "..", "shared", "data", "calibration") },
    json: { type: "string" },
    print: { type: "boolean", default: false },
  },
});
const dir = values.data;
const absent = missing(dir);
if (absent.length > 0) {
  process.stderr.write(`No calibration: ${dir} lacks ${absent.join(", ")}. They are public and not part of this repository; see --data.\n`);
  process.exit(EXIT_NO_DATA);
}

const figures: Figure[] = [];
const operator_figures: Figure[] = [];
const splitwise_figures: Figure[] = [];
const differences: string[] = [];
const note = (to: Figure[], row: string, column: string, value: number, unit = "%"): void => {
  to.push({ row, column, unit, values: [value] });
};
const noteErrors = (to: Figure[], row: string, relative: readonly number[], prefix = ""): void => {
  note(to, row, `${prefix}median error`, 100 * median(relative));
  note(to, row, `${prefix}p95 error`, 100 * percentile(relative, 95));
};
const carriedOr = (what: string, fitted: readonly Point[], carried: readonly Point[] | undefined): readonly Point[] => {
  if (values.print) process.stdout.write(`${what}: ${JSON.stringify(fitted)}\n`);
  if (JSON.stringify(fitted) !== JSON.stringify(carried)) differences.push(what);
  return carried ?? fitted;
};

for (const model of LLAMAS) for (const tp of DEGREES) dense(model, tp);
for (const [kind, groups, carried] of [
  ["all_reduce", ALL_REDUCE_GROUPS, ALL_REDUCE_US],
  ["send_recv", SEND_RECV_GROUPS, SEND_RECV_US],
] as const) {
  for (const group of groups) {
    const table = collectiveTable(dir, kind, group);
    const name = `${group.ranks}/${group.per_node}`;
    const curve = carriedOr(`${kind} ${name}`, fitCollective(table, group), carried[name]);
    const row = `${kind.replace("_", "-")}, ${group.ranks} GPUs on ${group.ranks / group.per_node} node${group.ranks === group.per_node ? "" : "s"}`;
    note(figures, row, "points", curve.length, "");
    noteErrors(figures, row, errors(table, curve));
  }
}
for (const [what, fitted, carried] of opt(readDistserve(dir) as DistserveFile, MODELS)) {
  if (JSON.stringify(fitted) !== JSON.stringify(carried)) differences.push(what);
}
for (const { tp, prompt_tokens, batch, prompt_ms, token_ms } of splitwiseCases(readTable(dir, "splitwise"))) {
  const outcome = mustProfile({ model: "llama-3-70b", tp, pp: 1, all_reduce: "nccl", gpus_per_node: 8 });
  const tokens = prompt_tokens * batch;
  const prefill_pairs = batch * prefillPairs(0, prompt_tokens);
  const prefill = stepUs(outcome, { tokens, prefill_pairs, decode_context: 0, prefill_tokens: tokens, decodes: 0 }) / 1_000;
  const decode_context = batch * prompt_tokens;
  const decode = stepUs(outcome, { tokens: batch, prefill_pairs: 0, decode_context, prefill_tokens: 0, decodes: batch }) / 1_000;
  const row = `TP ${tp}, ${batch} × ${prompt_tokens} tokens`;
  note(splitwise_figures, row, "prompt, measured", prompt_ms, "ms");
  note(splitwise_figures, row, "prompt, modelled", prefill, "ms");
  note(splitwise_figures, row, "difference", 100 * (prefill / prompt_ms - 1));
  note(splitwise_figures, row, "token, measured", token_ms, "ms");
  note(splitwise_figures, row, "token, modelled", decode, "ms");
}

const shared = {
  measured_at: new Date().toISOString(),
  commit: commit(root),
  machine: machine(),
  versions: { node: process.versions.node },
  rounds: 1,
};
const files: readonly BenchFile[] = [
  {
    ...shared,
    bench: "calibration",
    title: "The engine model's curves against the tables that they were fitted to",
    command: "node bench/calibration/fit.ts",
    samples_per_round: "relative errors over all rows of a table (456 a model and TP, 994 a collective)",
    figures,
    not_measured: [
      "attention: no table of it is at hand; its roofline is met by Splitwise's long prompts alone, below",
      "OPT: DistServe published its polynomials and not what they were fitted to",
    ],
  },
  {
    ...shared,
    bench: "calibration-operators",
    title: "Each operator by itself, through the points of its model's curve",
    command: "node bench/calibration/fit.ts",
    samples_per_round: "relative errors over the 456 rows of an operator",
    figures: operator_figures,
    not_measured: ["the engine model carries their sum alone: these are how well the same points would carry each"],
  },
  {
    ...shared,
    bench: "calibration-splitwise",
    title: "Llama-3-70B as modelled beside Llama-2-70B as Splitwise measured it (2023), A100",
    command: "node bench/calibration/fit.ts",
    samples_per_round: "medians of 5 to 15 repeats; nothing was fitted to them",
    figures: splitwise_figures,
    not_measured: [
      "tokens: that engine has a floor of about 42 ms, so that they bound ours from above and check no more",
      "batched prompts: it computes them hardly faster than one after the other, and with less of the GPU the more there are",
      "TP 2, where by our reckoning the weights leave no room for KV",
    ],
  },
];
process.stdout.write(`${files.map(markdown).join("\n\n")}\n`);
const base = values.json?.replace(/\.json$/, "");
if (base !== undefined) for (const file of files) writeFigures(`${base}${file.bench.replace("calibration", "")}.json`, file);
if (differences.length > 0) {
  process.stderr.write(`engine-model carries other coefficients than the fit gives (--print) for: ${differences.join(", ")}\n`);
  process.exitCode = EXIT_DIFFERENT;
}

function dense(model: LlamaName, tp: number): void {
  const table = denseTable(dir, model, tp);
  const times = MODELS[model]?.times;
  const carried = times?.type === "operators" ? times.dense_us[tp] : undefined;
  const curve = carriedOr(`${model} dense TP ${tp}`, fitDense(table), carried);
  const row = `${model} dense, TP ${tp}`;
  note(figures, row, "points", curve.length, "");
  noteErrors(figures, row, errors(table, curve));
  const knots = curve.map(([x]) => x);
  for (const operator of OPERATORS) {
    const own = layerUs(readTable(dir, model), tp, [operator]).toSorted((a, b) => a[0] - b[0]);
    noteErrors(operator_figures, `${model} ${operator}`, errors(own, heights(own, knots, new Map())), `TP ${tp} `);
  }
}
