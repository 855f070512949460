/** DistServe's polynomials as published, beside those that engine-model carries. */
import type { ModelSpec, StepPolynomials } from "../../gpu-gateway/engine-model/models/spec.ts";

type Three = readonly [number, number, number];
export type DistserveFile = Readonly<
  Record<
    string,
    Readonly<
      Record<
        string,
        {
          readonly prefill: Three;
          readonly decoding_smallbs: Three;
          readonly decoding_largebs: Three;
          readonly decoding_large_small_bs_threshold: number;
        }
      >
    >
  >
>;

export function opt(
  file: DistserveFile,
  models: Readonly<Record<string, ModelSpec>>,
): (readonly [what: string, published: StepPolynomials, carried: StepPolynomials | undefined])[] {
  return Object.entries(file).flatMap(([name, by_tp]) => {
    const model = name.replace("facebook/", "");
    const times = models[model]?.times;
    return Object.entries(by_tp).map(([tp, row]) => {
      const published = {
        prefill: row.prefill,
        decode_small: row.decoding_smallbs,
        decode_large: row.decoding_largebs,
        large_from: row.decoding_large_small_bs_threshold,
      };
      return [`${model} TP ${tp}`, published, times?.type === "polynomials" ? times.by_tp[Number(tp)] : undefined] as const;
    });
  });
}
