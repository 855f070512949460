/**
 * OPT-66B in fp16: 64 layers, hidden size 9,216, 72 heads of 128. Step times are the polynomials that DistServe fitted to its own engine
 * on A100 80 GB (Apache-2.0, LLMServe/DistServe, profiler-a100-80g.distserve.json): whole steps, host and all-reduce in them, one stage.
 * What they were fitted to is not published, and so no fit error is; the physics agree: at TP 4 a prompt token takes 0.151 ms (217
 * TFLOP/s a GPU, 0.70 of peak) and a token of context 0.45 µs (its 2,359,296 B at 0.64 of four GPUs' bandwidth).
 */
import type { ModelSpec } from "./spec.ts";

export const OPT_66B: ModelSpec = {
  name: "opt-66b",
  layers: 64,
  hidden: 9_216,
  attention_width: 72 * 128,
  weight_bytes: 131_400_000_000,
  kv_bytes_per_token: 2_359_296,
  context_tokens: 2_048,
  times: {
    type: "polynomials",
    by_tp: {
      2: {
        prefill: [43.05881348288936, 0.2742292870458432, 2.2478042467169447e-5],
        decode_small: [48.288015489286245, 0.0009424343535737985, 0.12755020094383188],
        decode_large: [28.727693993711597, 0.00047448475459061987, 0.29617792360743994],
        large_from: 95,
      },
      3: {
        prefill: [32.998230028437035, 0.19568256864690514, 1.2205248980953765e-5],
        decode_small: [35.8015439512012, 0.0005845004786127403, 0.0952669764890301],
        decode_large: [22.653861586978355, 0.0005358489190129727, 0.208514444037787],
        large_from: 95,
      },
      4: {
        prefill: [29.441636037717455, 0.151352180625198, 8.317450765979451e-6],
        decode_small: [30.760284619429587, 0.000451947603788462, 0.063284195750671],
        decode_large: [27.47082137429487, 0.0004046845541646486, 0.12480667738300383],
        large_from: 95,
      },
      8: {
        prefill: [25.490662375045222, 0.10659177664763161, 3.3910502518615973e-6],
        decode_small: [23.15511135047022, 0.00022691488497826264, 0.04800638397272423],
        decode_large: [21.71772781576609, 0.0003758089655762475, 0.08978614175851013],
        large_from: 95,
      },
    },
  },
};
