/**
 * What a plan must reach. A call attains its SLO when it was answered in full, its first token came within `ttft_us` of the client
 * sending it, and its further tokens came `tpot_us` apart on average. Everything else is a miss: refused, failed, late.
 */
import type { CallTimes } from "../types.ts";

export type Slo = {
  readonly ttft_us: number;
  readonly tpot_us: number;
  /** The share of calls that must attain it. */
  readonly attainment: number;
};

export const ttftOf = (times: CallTimes): number | null => (times.first_token === null ? null : times.first_token - times.arrived);
/** Null: it has no second token. */
export function tpotOf(times: CallTimes): number | null {
  if (times.first_token === null || times.last_token === null || times.output_tokens < 2) return null;
  return (times.last_token - times.first_token) / (times.output_tokens - 1);
}

export type Judgement = { readonly ttft: boolean; readonly tpot: boolean; readonly both: boolean };
const MISSED: Judgement = { ttft: false, tpot: false, both: false };

export function judge(times: CallTimes, slo: Slo): Judgement {
  if (times.outcome.type !== "done") return MISSED;
  const ttft = (ttftOf(times) ?? Infinity) <= slo.ttft_us;
  const tpot = (tpotOf(times) ?? 0) <= slo.tpot_us;
  return { ttft, tpot, both: ttft && tpot };
}

/** A call that has not ended by then has missed one or the other. */
export const overdueAt = (arrived: number, output_tokens: number, slo: Slo): number =>
  arrived + slo.ttft_us + Math.max(0, output_tokens - 1) * slo.tpot_us;
