/** Reads the calibration tables: public measurements that are not part of this repository. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import type { Point } from "./piecewise.ts";

export type Row = Readonly<Record<string, string>>;

const FILES = {
  "llama-3-8b": "vidur_a100_Meta-Llama-3-8B_mlp.csv.gz",
  "llama-3-70b": "vidur_a100_Meta-Llama-3-70B_mlp.csv.gz",
  all_reduce: "vidur_net_a100_dgx_all_reduce.csv.gz",
  send_recv: "vidur_net_a100_dgx_send_recv.csv.gz",
  splitwise: "splitwise_perf_model.csv.gz",
  distserve: "distserve_profiler-a100-80g.distserve.json.gz",
} as const;
export type TableName = keyof typeof FILES;

export const missing = (dir: string): string[] => Object.values(FILES).filter((file) => !existsSync(join(dir, file)));

const read = new Map<string, Row[]>(); // at most one a table and folder

export function readTable(dir: string, name: TableName): Row[] {
  const known = read.get(`${dir}/${name}`);
  if (known !== undefined) return known;
  const [head = "", ...lines] = text(dir, name).trim().split("\n");
  const keys = head.split(",");
  const rows = lines.map((line) => {
    const cells = line.split(",");
    return Object.fromEntries(keys.map((key, index) => [key, cells[index] ?? ""]));
  });
  read.set(`${dir}/${name}`, rows);
  return rows;
}

export const readDistserve = (dir: string): unknown => JSON.parse(text(dir, "distserve"));

function text(dir: string, name: TableName): string {
  return gunzipSync(readFileSync(join(dir, FILES[name]))).toString("utf8");
}

/** All operators of a layer, attention itself apart. The embedding is not one: it runs once a step and is left out. */
export const OPERATORS = [
  "input_layernorm",
  "attn_pre_proj",
  "attn_rope",
  "attn_post_proj",
  "post_attention_layernorm",
  "mlp_up_proj",
  "mlp_act",
  "mlp_down_proj",
  "add",
] as const;

/** Microseconds that the operators of one layer take, by tokens; medians. */
export function layerUs(rows: readonly Row[], tp: number, operators: readonly string[]): Point[] {
  return rows
    .filter((row) => Number(row["num_tensor_parallel_workers"]) === tp)
    .map((row) => [
      Number(row["num_tokens"]),
      operators.reduce((sum, operator) => sum + Number(row[`time_stats.${operator}.median`]) * 1_000, 0),
    ]);
}

/** Microseconds of a collective by bytes, among `ranks` of which `per_node` share a node; medians. */
export function collectiveUs(rows: readonly Row[], collective: "all_reduce" | "send_recv", ranks: number, per_node: number): Point[] {
  return rows
    .filter((row) => Number(row["num_workers"]) === ranks && Number(row["devices_per_node"]) === per_node)
    .map((row) => [Number(row["size"]), Number(row[`time_stats.${collective}.median`]) * 1_000]);
}
