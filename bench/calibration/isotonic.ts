/**
 * The nearest table that never falls (pool adjacent violators; Barlow, Bartholomew, Bremner and Brunk, 1972), nearest by relative error.
 * For measurements of what cannot fall, where they do by noise.
 */
import type { Point } from "./piecewise.ts";

export function neverFalling(table: readonly Point[]): Point[] {
  const data = table.toSorted((a, b) => a[0] - b[0]);
  const pools: { weight: number; sum: number; rows: number }[] = [];
  for (const [, y] of data) {
    let pool = { weight: 1 / (y * y), sum: 1 / y, rows: 1 };
    for (let last = pools.at(-1); last !== undefined && last.sum / last.weight >= pool.sum / pool.weight; last = pools.at(-1)) {
      pools.pop();
      pool = { weight: pool.weight + last.weight, sum: pool.sum + last.sum, rows: pool.rows + last.rows };
    }
    pools.push(pool);
  }
  const heights = pools.flatMap(({ weight, sum, rows }) => Array.from({ length: rows }, () => sum / weight));
  return data.map(([x], index) => [x, heights[index] ?? 0]);
}
