/** Prices as rating sees them. Nano-units of a currency as bigint; `*` stands for any. */
import { type Currency, type NanoMoney, nanoMoney } from "../money.ts";
import { type Nanos, nanos } from "../time.ts";

type Dated = {
  readonly price: string;
  readonly currency: Currency;
  readonly version: number;
  /** A full UTC minute. */
  readonly effective_from_ns: Nanos;
  readonly note: string;
};
/** What one GPU costs us for one hour. */
export type GpuPrice = Dated & {
  readonly kind: "gpu_hour";
  readonly cell: string;
  readonly gpu_type: string;
  readonly per_gpu_hour: NanoMoney;
};
/** What a tenant is charged for a million tokens. `prompt` is for those that were in no cache. */
export type TokenPrice = Dated & {
  readonly kind: "tokens";
  readonly model: string;
  readonly prompt_per_million: NanoMoney;
  readonly cached_per_million: NanoMoney;
  readonly completion_per_million: NanoMoney;
};
export type PriceRow = GpuPrice | TokenPrice;

/**
 * Examples, so that a first report shows money: an A100 at 1.80 EUR an hour, and a token plan of the size that hosted models of 8
 * billion parameters were sold at. An operator adds rows of their own; a later or more exact one wins.
 */
export const EXAMPLE_PRICES: readonly PriceRow[] = [
  {
    kind: "gpu_hour",
    price: "example-a100-hour",
    currency: "EUR",
    version: 1,
    effective_from_ns: nanos(0n),
    note: "example: replace by what your GPUs cost you",
    cell: "*",
    gpu_type: "*",
    per_gpu_hour: nanoMoney(1_800_000_000n),
  },
  {
    kind: "tokens",
    price: "example-tokens",
    currency: "EUR",
    version: 1,
    effective_from_ns: nanos(0n),
    note: "example: replace by your plan",
    model: "*",
    prompt_per_million: nanoMoney(200_000_000n),
    cached_per_million: nanoMoney(50_000_000n),
    completion_per_million: nanoMoney(600_000_000n),
  },
];
