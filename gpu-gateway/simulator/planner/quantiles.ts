/** Figures of a sample. Quantiles are by nearest rank: always a value that occurred. */
export type Spread = { readonly mean: number; readonly p50: number; readonly p90: number; readonly p99: number; readonly max: number };

export function spreadOf(values: readonly number[]): Spread | null {
  if (values.length === 0) return null;
  const sorted = Float64Array.from(values).sort();
  const sum = sorted.reduce((total, value) => total + value, 0);
  const at = (q: number): number => quantile(sorted, q);
  return { mean: sum / sorted.length, p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
}

export function quantile(sorted: ArrayLike<number>, q: number): number {
  const rank = Math.max(1, Math.ceil(q * sorted.length));
  return sorted[rank - 1] ?? Number.NaN;
}

/** Of counts by value, in the order of values. */
export function quantileOfCounts(counts: ReadonlyMap<number, number>, q: number): number | null {
  const values = [...counts.keys()].sort((a, b) => a - b);
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
  let left = Math.max(1, Math.ceil(q * total));
  for (const value of values) {
    left -= counts.get(value) ?? 0;
    if (left <= 0) return value;
  }
  return null;
}
