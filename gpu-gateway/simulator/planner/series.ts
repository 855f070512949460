/** Curves of a run: cumulative shares, and load over time. */
import type { CallTimes } from "../types.ts";
import type { Curve } from "./answer.ts";
import { quantile } from "./quantiles.ts";

const CURVE_POINTS_MAX = 200;

export function cdfOf(values: readonly number[]): Curve {
  const sorted = Float64Array.from(values).sort();
  if (sorted.length === 0) return [];
  const points = Math.min(CURVE_POINTS_MAX, sorted.length);
  return Array.from({ length: points }, (_, i) => [quantile(sorted, (i + 1) / points), (i + 1) / points] as const);
}

/** Of one stretch of time: averages over it. */
export type LoadPoint = {
  readonly from_s: number;
  readonly arrivals_per_s: number;
  /** Sent, no token yet; and between first and last token. */
  readonly waiting: number;
  readonly answering: number;
  /** Each call's tokens spread evenly from its first to its last. */
  readonly output_tokens_per_s: number;
};
const LOAD_POINTS = 120;

export function loadOf(calls: readonly CallTimes[], virtual_us: number): LoadPoint[] {
  if (virtual_us <= 0) return [];
  const width = virtual_us / LOAD_POINTS;
  const column = (): Float64Array => new Float64Array(LOAD_POINTS);
  const [arrivals, waiting, answering, tokens] = [column(), column(), column(), column()];
  const at = (us: number): number => Math.min(LOAD_POINTS - 1, Math.max(0, Math.floor(us / width)));
  /** Adds an amount, spread evenly over the stretch. */
  const spread = (into: Float64Array, from: number, to: number, amount: number): void => {
    if (to <= from) return void (into[at(from)] = (into[at(from)] ?? 0) + amount);
    for (let i = at(from); i <= at(to); i++) {
      const overlap = Math.min(to, (i + 1) * width) - Math.max(from, i * width);
      if (overlap > 0) into[i] = (into[i] ?? 0) + (amount * overlap) / (to - from);
    }
  };
  for (const times of calls) {
    const bucket = at(times.arrived);
    arrivals[bucket] = (arrivals[bucket] ?? 0) + 1;
    const first = times.first_token ?? times.ended;
    spread(waiting, times.arrived, first, first - times.arrived);
    if (times.first_token === null || times.last_token === null) continue;
    spread(answering, times.first_token, times.last_token, times.last_token - times.first_token);
    spread(tokens, times.first_token, times.last_token, times.output_tokens);
  }
  return Array.from({ length: LOAD_POINTS }, (_, i) => ({
    from_s: (i * width) / 1e6,
    arrivals_per_s: (arrivals[i] ?? 0) / (width / 1e6),
    waiting: (waiting[i] ?? 0) / width,
    answering: (answering[i] ?? 0) / width,
    output_tokens_per_s: (tokens[i] ?? 0) / (width / 1e6),
  }));
}
