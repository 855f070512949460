/** Cost: what GPU time cost us, at what the nodes cost (D5). Conserved, and nothing to do with what is charged. */
import { type NanoMoney, mulDivRound, nanoMoney } from "../money.ts";
import { NANOS_PER_SECOND } from "../time.ts";
import type { GpuPrice } from "./prices.ts";

/** GPU-nanoseconds in a GPU-hour. */
export const NANOS_PER_HOUR = 3_600n * NANOS_PER_SECOND;

/** Over NANOS_PER_HOUR: exact, for sums that are rounded once (apportion.ts). */
export const costNumerator = (gpu_ns: bigint, price: GpuPrice): bigint => gpu_ns * price.per_gpu_hour;

export const costOf = (gpu_ns: bigint, price: GpuPrice): NanoMoney => nanoMoney(mulDivRound(gpu_ns, price.per_gpu_hour, NANOS_PER_HOUR));
