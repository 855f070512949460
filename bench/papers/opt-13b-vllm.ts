/**
 * OPT-13B as vLLM computed it in 2023: whole steps, by the polynomials that DistServe's authors fitted to it and simulate it with (Apache-2.0,
 * LLMServe/DistServe, profiler-a100-80g.vllm.json). A prompt takes about 1.4 times as long as in their own engine, a token 1.1 times.
 * It serves one comparison and is no model that the product offers: here alone it is one of MODELS.
 */
import { OPT_13B } from "../../gpu-gateway/engine-model/models/opt-13b.ts";
import type { ModelSpec } from "../../gpu-gateway/engine-model/models/spec.ts";
import { MODELS } from "../../gpu-gateway/engine-model/profile.ts";

export const OPT_13B_VLLM: ModelSpec = {
  ...OPT_13B,
  name: "opt-13b-vllm-2023",
  times: {
    type: "polynomials",
    by_tp: {
      1: {
        prefill: [22.052204789310185, 0.14050923870128956, 8.076584822611088e-6],
        decode_small: [23.475041008414784, 0.000592934466077393, 0.060726861260369455],
        decode_large: [20.206356173691958, 0.0004907727036234946, 0.1200031385587413],
        large_from: 95,
      },
      2: {
        prefill: [27.440806247810684, 0.0905453268062731, 8.452054313246025e-6],
        decode_small: [24.54058424191086, 0.00022440145424035404, 0.08715787269447899],
        decode_large: [17.947769467112806, 0.0004570851465217072, 0.11179075830699213],
        large_from: 95,
      },
    },
  },
};
(MODELS as Record<string, ModelSpec>)[OPT_13B_VLLM.name] = OPT_13B_VLLM;
