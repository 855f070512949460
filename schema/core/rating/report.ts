/**
 * The usage report: rows by up to two keys, each with what it cost and what it is charged, kept apart (D5), and a total that is
 * exactly their sum. Pure: what is rated and reconciled comes from the caller.
 */
import { type Currency, formatMoney } from "../money.ts";
import { type Nanos, NANOS_PER_MINUTE, formatInstant, minuteOf, nanos } from "../time.ts";
import type { UsageGroup, UsageReport } from "../wire/http.ts";
import { apportion } from "./apportion.ts";
import { TOKENS_PER_PRICE, chargeNumerator } from "./charge.ts";
import { NANOS_PER_HOUR, costNumerator } from "./cost.ts";
import type { GpuPrice, PriceRow, TokenPrice } from "./prices.ts";
import { type CellReconciliation, type UsageRowCheck, reconcile } from "./reconcile.ts";

export const USAGE_GROUPS_MAX = 2;

/** A sum of usage rows with the same keys that the same price is for. */
export type PricedUsage = {
  readonly key: Readonly<Record<string, string | null>>;
  /** The price in force when it was used; null: there was none. */
  readonly price: string | null;
  readonly calls: number;
  readonly prompt_tokens: bigint;
  readonly cached_tokens: bigint;
  readonly completion_tokens: bigint;
  readonly prefill_gpu_ns: bigint;
  /** Decode, and calls served in one leg. */
  readonly decode_gpu_ns: bigint;
  readonly holding_gpu_ns: bigint;
};

export type EdgeUsage = { readonly requests: bigint; readonly wall_ns: bigint; readonly session_ns: bigint; readonly tool_calls: bigint };

export type ReportInput = {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly group_by: readonly UsageGroup[];
  readonly currency: Currency;
  readonly usage: readonly PricedUsage[];
  readonly prices: readonly PriceRow[];
  readonly edge: EdgeUsage;
  readonly cells: readonly CellReconciliation[];
  readonly usage_rows: UsageRowCheck;
};

/** A period in whole UTC minutes, outwards: no usage row crosses a minute, so none is half inside. */
export function reportPeriod(from: Nanos, to: Nanos): { readonly from: Nanos; readonly to: Nanos } {
  return { from: minuteOf(from), to: minuteOf(nanos(to + NANOS_PER_MINUTE - 1n)) };
}

const SUMS = ["prompt_tokens", "cached_tokens", "completion_tokens", "prefill_gpu_ns", "decode_gpu_ns", "holding_gpu_ns"] as const;
type Sums = Record<(typeof SUMS)[number], bigint> & { calls: number; cost: bigint; charge: bigint };
const zero = (): Sums => ({
  calls: 0,
  prompt_tokens: 0n,
  cached_tokens: 0n,
  completion_tokens: 0n,
  prefill_gpu_ns: 0n,
  decode_gpu_ns: 0n,
  holding_gpu_ns: 0n,
  cost: 0n,
  charge: 0n,
});

export function buildUsageReport(input: ReportInput): UsageReport {
  const { usage, prices, currency } = input;
  const gpu = new Map<string, GpuPrice>();
  const token = new Map<string, TokenPrice>();
  for (const price of prices) {
    if (price.currency !== currency) continue;
    if (price.kind === "gpu_hour") gpu.set(price.price, price);
    else token.set(price.price, price);
  }

  // Exact numerators are summed first; money is rounded once, below.
  const groups = new Map<string, { key: PricedUsage["key"]; sums: Sums }>();
  const unpriced = { gpu_ns: 0n, tokens: 0n };
  for (const part of usage) {
    const name = JSON.stringify(Object.entries(part.key));
    const group = groups.get(name) ?? { key: part.key, sums: zero() };
    groups.set(name, group);
    const { sums } = group;
    sums.calls += part.calls;
    for (const field of SUMS) sums[field] += part[field];
    const gpu_ns = part.prefill_gpu_ns + part.decode_gpu_ns + part.holding_gpu_ns;
    const tokens = { prompt: part.prompt_tokens, cached: part.cached_tokens, completion: part.completion_tokens };
    const gpu_price = gpu.get(part.price ?? "");
    const token_price = token.get(part.price ?? "");
    if (gpu_price) sums.cost += costNumerator(gpu_ns, gpu_price);
    else unpriced.gpu_ns += gpu_ns;
    if (token_price) sums.charge += chargeNumerator(tokens, token_price);
    else unpriced.tokens += tokens.prompt + tokens.completion;
  }

  const sorted = [...groups].toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)).map(([, group]) => group);
  const cost = apportion(
    sorted.map((group) => group.sums.cost),
    NANOS_PER_HOUR,
  );
  const charge = apportion(
    sorted.map((group) => group.sums.charge),
    TOKENS_PER_PRICE,
  );
  const total = zero();
  for (const { sums } of sorted) {
    total.calls += sums.calls;
    for (const field of SUMS) total[field] += sums[field];
  }
  return {
    from: formatInstant(input.from),
    to: formatInstant(input.to),
    group_by: [...input.group_by],
    currency,
    rows: sorted.map(({ key, sums }, i) => toRow(key, sums, cost.rows[i] ?? 0n, charge.rows[i] ?? 0n)),
    total: toRow({}, total, cost.total, charge.total),
    edge: {
      requests: input.edge.requests.toString(),
      wall_ns: input.edge.wall_ns.toString(),
      session_ns: input.edge.session_ns.toString(),
      tool_calls: input.edge.tool_calls.toString(),
    },
    reconciliation: reconcile(input.from, input.cells, input.usage_rows),
    ...(unpriced.gpu_ns === 0n && unpriced.tokens === 0n
      ? {}
      : { unpriced: { gpu_ns: unpriced.gpu_ns.toString(), tokens: unpriced.tokens.toString() } }),
  };
}

function toRow(key: PricedUsage["key"], sums: Sums, cost: bigint, charge: bigint): UsageReport["total"] {
  return {
    key: { ...key },
    calls: sums.calls,
    prompt_tokens: sums.prompt_tokens.toString(),
    cached_tokens: sums.cached_tokens.toString(),
    completion_tokens: sums.completion_tokens.toString(),
    prefill_gpu_ns: sums.prefill_gpu_ns.toString(),
    decode_gpu_ns: sums.decode_gpu_ns.toString(),
    holding_gpu_ns: sums.holding_gpu_ns.toString(),
    cost: formatMoney(cost),
    charge: formatMoney(charge),
  };
}
