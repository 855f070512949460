/**
 * The A100 80 GB SXM as its data sheet gives it, and what of it a kernel gets (`*_share`). NVLink is 600 GB/s a GPU, 300 each way; a node has
 * one 200 Gb/s NIC. Shares are those at which attention's roofline fits vidur's measurements.
 */
export const A100 = {
  memory_bytes: 80e9,
  flops_per_us: 312e6,
  hbm_bytes_per_us: 2.039e6,
  nvlink_bytes_per_us: 300_000,
  nic_bytes_per_us: 25_000,
  pcie_bytes_per_us: 25_000,
  prefill_attention_share: 0.5,
  decode_attention_share: 0.75,
  /** vLLM's gpu_memory_utilization. */
  memory_share: 0.9,
  /** An assumption: activations, CUDA graphs and communication buffers, of each GPU. */
  reserved_bytes: 4e9,
} as const;
