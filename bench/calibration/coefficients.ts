/** The coefficients that engine-model carries, fitted anew from the tables. */
import { neverFalling } from "./isotonic.ts";
import { fitCurve, type Point } from "./piecewise.ts";
import { OPERATORS, collectiveUs, layerUs, readTable } from "./tables.ts";

export const DEGREES = [1, 2, 4, 8] as const;
export const LLAMA_LAYERS = { "llama-3-8b": 32, "llama-3-70b": 80 } as const;
export type LlamaName = keyof typeof LLAMA_LAYERS;
export const LLAMAS = ["llama-3-8b", "llama-3-70b"] as const satisfies readonly LlamaName[];

/** Where GPUs that reduce together lie: all rows that the tables have. */
export const ALL_REDUCE_GROUPS = [
  { ranks: 2, per_node: 2 },
  { ranks: 4, per_node: 4 },
  { ranks: 8, per_node: 8 },
  { ranks: 2, per_node: 1 },
  { ranks: 4, per_node: 2 },
  { ranks: 8, per_node: 4 },
  { ranks: 16, per_node: 8 },
] as const;
export const SEND_RECV_GROUPS = [
  { ranks: 2, per_node: 2 },
  { ranks: 2, per_node: 1 },
] as const;

/** A matrix kernel's tile is 128 tokens, or 64 when there are few. */
const TILE_TOKENS = 128;
const JUMPS = [TILE_TOKENS / 2, ...Array.from({ length: 32 }, (_, i) => TILE_TOKENS * (i + 1))];
/** The curve goes through these rows of the table: the step budgets in use, and the sums that are published. */
const ANCHORS = [1, 512, 2_048, 4_096];
const DENSE = { p95_target: 0.03, knots_max: 32, anchors: ANCHORS, jumps: JUMPS, unit: 1 };
const COLLECTIVE = { p95_target: 0.05, knots_max: 8, anchors: [], jumps: [], unit: 0.1 };
/** The first row of each collective, 2,048 bytes, is one noisy measurement; curves are level below this. */
const COLLECTIVE_BYTES_MIN = 10_240;

/** Microseconds of all layers of the dense part, by tokens. */
export function denseTable(dir: string, model: LlamaName, tp: number): Point[] {
  return layerUs(readTable(dir, model), tp, OPERATORS).map(([x, y]) => [x, y * LLAMA_LAYERS[model]]);
}

export const fitDense = (table: readonly Point[]): Point[] => fitCurve(table, DENSE);

/** Within a node the table falls by noise alone, a small all-reduce taking 20 or 60 µs by turns; between nodes because NCCL changes its algorithm. */
export function fitCollective(table: readonly Point[], group: { ranks: number; per_node: number }): Point[] {
  const rows = table.filter(([bytes]) => bytes >= COLLECTIVE_BYTES_MIN);
  const curve = fitCurve(group.ranks === group.per_node ? neverFalling(rows) : rows, COLLECTIVE);
  if (group.ranks !== group.per_node) return curve;
  let least = 0;
  return curve.map(([bytes, us]) => [bytes, (least = Math.max(least, us))]);
}

export function collectiveTable(dir: string, kind: "all_reduce" | "send_recv", group: { ranks: number; per_node: number }): Point[] {
  return collectiveUs(readTable(dir, kind), kind, group.ranks, group.per_node);
}
