/**
 * Fits a piecewise-linear curve to a table with as few points as bring the 95th percentile of its relative error under a target.
 *
 * For given knots the heights are the weighted least squares, weights 1/y²: relative errors count. Knots are added greedily: of
 * log-spaced candidates, and of *jumps*, the one that lowers the squared relative error most for each knot that it costs. A jump is
 * knots at two neighbouring rows: matrix kernels work in tiles, so that their time is a staircase. An *anchor* is a point that the curve must
 * go through exactly.
 */
import { percentile } from "../lib/figures.ts";

export type Point = readonly [x: number, y: number];
export type FitOptions = {
  readonly p95_target: number;
  readonly knots_max: number;
  readonly anchors: readonly number[];
  /** Where the curve may jump: between x and the table's next row. */
  readonly jumps: readonly number[];
  /** Heights are rounded to this. */
  readonly unit: number;
};

const CANDIDATES = 72;

export function fitCurve(table: readonly Point[], options: FitOptions): Point[] {
  const data = table.toSorted((a, b) => a[0] - b[0]);
  const xs = [...new Set(data.map(([x]) => x))];
  const fixed = new Map(data.filter(([x]) => options.anchors.includes(x))); // of equal x, the last row of the table
  const moves = [...logSpaced(xs).map((x) => [x]), ...options.jumps.map((x) => [x, xs[xs.indexOf(x) + 1] ?? x])];
  const fit = (knots: readonly number[]) =>
    heights(
      data,
      [...new Set(knots)].toSorted((a, b) => a - b),
      fixed,
    );
  const loss = (curve: readonly Point[]) => errors(data, curve).reduce((sum, error) => sum + error * error, 0);
  let best = fit([xs[0] ?? 0, ...fixed.keys(), xs.at(-1) ?? 0]);
  while (best.length < options.knots_max && percentile(errors(data, best), 95) > options.p95_target) {
    const [length, before] = [best.length, loss(best)];
    const knots = best.map(([x]) => x);
    const winner = moves
      .map((move) => fit([...knots, ...move]))
      .filter((curve) => curve.length > length && curve.length <= options.knots_max)
      .map((curve) => ({ curve, gain: (before - loss(curve)) / (curve.length - length) }))
      .toSorted((a, b) => b.gain - a.gain)[0];
    if (winner === undefined || winner.gain <= 0) break;
    best = winner.curve;
  }
  return best.map(([x, y]) => [x, Number((Math.round(y / options.unit) * options.unit).toFixed(6))]);
}

/** Relative errors of the curve against each row, without sign. */
export function errors(table: readonly Point[], curve: readonly Point[]): number[] {
  const knots = curve.map(([x]) => x);
  return table.map(([x, y]) => {
    const { left, share } = place(knots, x);
    const value = (1 - share) * (curve[left]?.[1] ?? 0) + share * (curve[left + 1]?.[1] ?? 0);
    return Math.abs(value - y) / y;
  });
}

/** The least-squares heights at these knots; those in `fixed` are given. */
export function heights(data: readonly Point[], knots: readonly number[], fixed: ReadonlyMap<number, number>): Point[] {
  const free = knots.filter((x) => !fixed.has(x));
  const column = new Map(free.map((x, index) => [x, index]));
  const size = free.length;
  const normal = free.map(() => Array.from({ length: size + 1 }, () => 0));
  for (const [x, y] of data) {
    const { left, share } = place(knots, x);
    const parts: [column: number, weight: number][] = [];
    let rest = y;
    for (const [knot, weight] of [
      [knots[left] ?? 0, 1 - share],
      [knots[left + 1] ?? 0, share],
    ] as const) {
      const at = column.get(knot);
      if (weight === 0) continue;
      if (at === undefined) rest -= weight * (fixed.get(knot) ?? 0);
      else parts.push([at, weight]);
    }
    for (const [i, a] of parts) {
      const line = normal[i];
      if (line === undefined) continue;
      for (const [j, b] of parts) line[j] = (line[j] ?? 0) + (a * b) / (y * y);
      line[size] = (line[size] ?? 0) + (a * rest) / (y * y);
    }
  }
  const solved = solve(normal);
  return knots.map((x) => [x, fixed.get(x) ?? solved[column.get(x) ?? -1] ?? 0]);
}

/** x lies `share` of the way from knot `left` to the next. */
function place(knots: readonly number[], x: number): { left: number; share: number } {
  let [low, high] = [0, Math.max(1, knots.length - 1)];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((knots[middle] ?? 0) <= x) low = middle;
    else high = middle;
  }
  const [a, b] = [knots[low] ?? 0, knots[high] ?? 0];
  return { left: low, share: b === a ? 0 : (x - a) / (b - a) };
}

/** Gauss and Jordan with partial pivoting over an augmented matrix. */
function solve(matrix: number[][]): number[] {
  const size = matrix.length;
  const cell = (row: number, column: number): number => matrix[row]?.[column] ?? 0;
  for (let column = 0; column < size; column++) {
    let pivot = column;
    for (let row = column + 1; row < size; row++) if (Math.abs(cell(row, column)) > Math.abs(cell(pivot, column))) pivot = row;
    const [here, there] = [matrix[column], matrix[pivot]];
    if (here === undefined || there === undefined || cell(pivot, column) === 0) continue;
    [matrix[column], matrix[pivot]] = [there, here];
    for (let row = 0; row < size; row++) {
      const target = matrix[row];
      const factor = cell(row, column) / cell(column, column);
      if (row === column || factor === 0 || target === undefined) continue;
      for (let k = column; k <= size; k++) target[k] = (target[k] ?? 0) - factor * (there[k] ?? 0);
    }
  }
  return matrix.map((row, index) => ((row[index] ?? 0) === 0 ? 0 : (row[size] ?? 0) / (row[index] ?? 1)));
}

function logSpaced(xs: readonly number[]): number[] {
  const [low, high] = [Math.log(xs[0] ?? 1), Math.log(xs.at(-1) ?? 1)];
  const nearest = (wanted: number): number =>
    xs.reduce((a, b) => (Math.abs(Math.log(b) - wanted) < Math.abs(Math.log(a) - wanted) ? b : a));
  return [...new Set(Array.from({ length: CANDIDATES }, (_, i) => nearest(low + ((high - low) * i) / (CANDIDATES - 1))))];
}
