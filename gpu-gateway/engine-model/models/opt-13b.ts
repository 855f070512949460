/**
 * OPT-13B in fp16: 40 layers, hidden size 5,120, 40 heads of 128. Step times are the polynomials that DistServe fitted to its own engine
 * on A100 80 GB (Apache-2.0, LLMServe/DistServe, profiler-a100-80g.distserve.json): whole steps, host and all-reduce in them, one stage.
 * What they were fitted to is not published, and so no fit error is; the physics agree: at TP 1 a prompt token takes 0.102 ms (252
 * TFLOP/s, 0.81 of peak) and a token of context 0.63 µs (its 819,200 B at 0.64 of the bandwidth).
 */
import type { ModelSpec } from "./spec.ts";

export const OPT_13B: ModelSpec = {
  name: "opt-13b",
  layers: 40,
  hidden: 5_120,
  attention_width: 40 * 128,
  weight_bytes: 25_700_000_000,
  kv_bytes_per_token: 819_200,
  context_tokens: 2_048,
  times: {
    type: "polynomials",
    by_tp: {
      1: {
        prefill: [18.10254647486372, 0.1019122572698738, 7.122264314252114e-6],
        decode_small: [19.934702624895458, 0.0006269356524350583, 0.03850697740828398],
        decode_large: [7.1661889468253595, 0.0005798000403396046, 0.15831096191764046],
        large_from: 95,
      },
      2: {
        prefill: [14.742973695171262, 0.06857720739764, 2.4495727400243586e-6],
        decode_small: [13.294796350285385, 0.00034109219700723494, 0.06296393225243659],
        decode_large: [10.638741913126715, 0.00031183369638295723, 0.08562913604102729],
        large_from: 95,
      },
      4: {
        prefill: [12.062297033449054, 0.03808140082550695, 5.226249731787869e-7],
        decode_small: [10.256231678259395, 0.00018786702316166354, 0.03269273629225551],
        decode_large: [10.483514938375274, 0.00017120888562939117, 0.04566648525887034],
        large_from: 95,
      },
    },
  },
};
