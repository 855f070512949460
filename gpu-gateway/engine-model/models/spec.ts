/** What is known of a model before it is put on GPUs: its shape, and how its step times were measured. */
import type { Curve } from "../curve.ts";

export type ModelSpec = {
  readonly name: string;
  readonly layers: number;
  readonly hidden: number;
  /** Query heads × the size of a head. */
  readonly attention_width: number;
  readonly weight_bytes: number;
  readonly kv_bytes_per_token: number;
  readonly context_tokens: number;
  readonly times: OperatorTimes | PolynomialTimes;
};

/** Kernel times of the dense part; attention, all-reduce and host come on top. By degree of tensor parallelism. */
export type OperatorTimes = {
  readonly type: "operators";
  /** Microseconds of all layers, by tokens. */
  readonly dense_us: Readonly<Record<number, Curve>>;
};

/** Whole steps, fitted by polynomials: everything is in them. By degree of tensor parallelism. */
export type PolynomialTimes = { readonly type: "polynomials"; readonly by_tp: Readonly<Record<number, StepPolynomials>> };

/** Milliseconds, in DistServe's form. */
export type StepPolynomials = {
  /** fixed + per_token·Σl + per_square·Σl², over prompts of length l. */
  readonly prefill: readonly [fixed: number, per_token: number, per_square: number];
  /** fixed + per_context·Σcontext + per_sequence·batch, for batches under the threshold and from it on. */
  readonly decode_small: readonly [fixed: number, per_context: number, per_sequence: number];
  readonly decode_large: readonly [fixed: number, per_context: number, per_sequence: number];
  readonly large_from: number;
};
