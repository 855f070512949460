/**
 * What GPUs that work together say to each other: the all-reduce of tensor parallelism, the send and receive of pipeline stages.
 *
 * NCCL: vidur's measurements on DGX A100 (MIT, microsoft/vidur, a100_dgx), medians by bytes, 994 sizes up to 64 MiB, drawn through at
 * most 8 points each (bench/calibration/fit.ts). Relative error against the table, median and 95th percentile, for ranks/ranks a node:
 * all-reduce 2/2 1.9 and 26.8 %, 4/4 3.4 and 28.6 %, 8/8 2.1 and 29.2 %, 2/1 0.6 and 4.1 %, 4/2 3.1 and 20.0 %, 8/4 1.5 and 13.7 %,
 * 16/8 4.3 and 26.2 %; send/receive 2/2 1.6 and 6.5 %, 2/1 0.7 and 4.5 %. The large ones are noise of the table: within a node a small
 * all-reduce came out at 20 or at 60 µs by turns, so that those curves are fitted to the nearest table that never falls. Between nodes
 * NCCL changes its algorithm with size and the curves do fall. The fabric there is the table's own (17 GB/s of bus bandwidth at most), not
 * our one NIC of 25 GB/s.
 *
 * NVRAR (Singhania et al., "LLM Inference Beyond a Single Node", 2025): a hierarchical all-reduce over NVSHMEM with 1.9 to 3.6 times less
 * latency than NCCL for 128 KB to 2 MB between nodes. The shape between is an assumption: 1.9 at both ends of that range, 3.6 in its
 * middle (512 KB), no gain from 4 MB on. A smaller message can be sent padded, so that below 128 KB it costs no more than one of 128 KB.
 * Within a node NCCL is used.
 */
import { valueAt } from "./curve.ts";
import type { Curve } from "./curve.ts";

export type AllReduce = "nccl" | "nvrar";
/** GPUs that reduce together, and how many of them share a node. */
export type Group = { readonly ranks: number; readonly per_node: number };

/** Microseconds by bytes; keys are ranks/ranks a node. */
export const ALL_REDUCE_US: Readonly<Record<string, Curve>> = {
  "2/2": [
    [10_240, 30.3],
    [329_728, 30.3],
    [690_176, 55.8],
    [2_686_976, 56.3],
    [8_192_000, 92.9],
    [67_108_864, 437.2],
  ],
  "4/4": [
    [10_240, 16.9],
    [141_312, 29.1],
    [690_176, 29.1],
    [1_001_472, 57.8],
    [1_277_952, 57.8],
    [2_097_152, 57.8],
    [6_389_760, 117],
    [67_108_864, 598.2],
  ],
  "8/8": [
    [10_240, 25.3],
    [67_584, 38.7],
    [690_176, 40.7],
    [1_867_776, 72.3],
    [2_359_296, 72.3],
    [19_529_728, 305.7],
    [40_894_464, 459.8],
    [67_108_864, 694.9],
  ],
  "2/1": [
    [10_240, 42.1],
    [198_656, 119.4],
    [329_728, 198.2],
    [608_256, 163.3],
    [690_176, 191.2],
    [67_108_864, 11_385.8],
  ],
  "4/2": [
    [10_240, 35.2],
    [51_200, 85.4],
    [5_636_096, 1_331.9],
    [6_389_760, 1_662.3],
    [10_485_760, 1_459],
    [15_204_352, 2_058.8],
    [19_529_728, 4_871.6],
    [67_108_864, 16_723.3],
  ],
  "8/4": [
    [10_240, 79],
    [18_432, 53.1],
    [108_544, 157.1],
    [288_768, 171.9],
    [1_114_112, 341.5],
    [2_359_296, 515.7],
    [9_273_344, 968.9],
    [67_108_864, 5_534.8],
  ],
  "16/8": [
    [10_240, 68.4],
    [780_288, 438.5],
    [3_440_640, 1_146.1],
    [6_389_760, 1_681.6],
    [10_485_760, 2_741.3],
    [15_204_352, 1_696.7],
    [17_170_432, 2_705.1],
    [67_108_864, 6_741.8],
  ],
};
export const SEND_RECV_US: Readonly<Record<string, Curve>> = {
  "2/2": [
    [10_240, 10.9],
    [59_392, 15.9],
    [6_389_760, 31.4],
    [19_529_728, 77.3],
    [24_903_680, 94.7],
    [31_981_568, 124.7],
    [40_894_464, 189.6],
    [67_108_864, 292],
  ],
  "2/1": [
    [10_240, 30.7],
    [67_108_864, 8_660],
  ],
};

const KIB = 1_024;
/** NCCL's latency ÷ NVRAR's, over the binary logarithm of KiB. */
const NVRAR_GAIN: Curve = [
  [Math.log2(128), 1.9],
  [Math.log2(512), 3.6],
  [Math.log2(2_048), 1.9],
  [Math.log2(4_096), 1],
];
const NVRAR_FROM_BYTES = 128 * KIB;
const NVRAR_UNTIL_BYTES = 4_096 * KIB;

/** Null: nobody measured such a group. */
export function allReduceUs(group: Group, algorithm: AllReduce): Curve | null {
  const nccl = ALL_REDUCE_US[`${group.ranks}/${group.per_node}`];
  if (nccl === undefined) return null;
  return algorithm === "nvrar" && group.per_node < group.ranks ? nvrar(nccl) : nccl;
}

/** From one stage to the next, whole activations. */
export function sendReceiveUs(between_nodes: boolean): Curve {
  return SEND_RECV_US[between_nodes ? "2/1" : "2/2"] ?? [];
}

function nvrar(nccl: Curve): Curve {
  const at = (bytes: number): number => valueAt(nccl, bytes) / valueAt(NVRAR_GAIN, Math.log2(bytes / KIB));
  const smallest = at(NVRAR_FROM_BYTES);
  const steps = Array.from({ length: 21 }, (_, i) => NVRAR_FROM_BYTES * 2 ** (i / 4)).filter((bytes) => bytes <= NVRAR_UNTIL_BYTES);
  const small = nccl.filter(([bytes]) => bytes < NVRAR_FROM_BYTES).map(([bytes, us]) => [bytes, Math.min(us, smallest)] as const);
  const large = nccl.filter(([bytes]) => bytes > NVRAR_UNTIL_BYTES);
  return [...small, ...steps.map((bytes) => [bytes, at(bytes)] as const), ...large];
}
