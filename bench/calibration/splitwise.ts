/** Splitwise's measurements of Llama-2-70B on A100s: the shape of Llama-3-70B, another engine, another year. Medians of their repeats. */
import { median } from "../lib/figures.ts";
import type { Row } from "./tables.ts";

export type SplitwiseCase = {
  readonly tp: number;
  readonly prompt_tokens: number;
  readonly batch: number;
  readonly prompt_ms: number;
  readonly token_ms: number;
};

/** Prompts of one and batches at 512, as far as the model's memory allows (TP 2 leaves none by our reckoning). */
export function splitwiseCases(rows: readonly Row[]): SplitwiseCase[] {
  const groups = new Map<string, Row[]>();
  for (const row of rows) {
    const tp = Number(row["tensor_parallel"]);
    if (row["model"] !== "llama2-70b" || row["hardware"] !== "a100-80gb" || tp < 4 || row["token_size"] !== "128") continue;
    const key = `${tp} ${row["prompt_size"]} ${row["batch_size"]}`;
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  return [...groups.values()]
    .map((same) => ({
      tp: Number(same[0]?.["tensor_parallel"]),
      prompt_tokens: Number(same[0]?.["prompt_size"]),
      batch: Number(same[0]?.["batch_size"]),
      prompt_ms: median(same.map((row) => Number(row["prompt_time"]))),
      token_ms: median(same.map((row) => Number(row["token_time"]))),
    }))
    .filter(({ batch, prompt_tokens }) => prompt_tokens >= 512 && (batch === 1 || batch === 8 || batch === 32))
    .toSorted((a, b) => a.tp - b.tp || a.batch - b.batch || a.prompt_tokens - b.prompt_tokens);
}
