/**
 * Completions whose prompts both sides count alike: text of 4 × n characters is n tokens to the simulated engine and to the gateway's estimate.
 * How long an answer is, the simulated engine decides by its prompt: 16 to 120 tokens, cut at `max_tokens`.
 */
import { exponential, seeded } from "../../../gpu-gateway/simulator/traces/random.ts";

export type LiveCall = { readonly at_ms: number; readonly prompt: string; readonly max_tokens: number };
export type Workload = {
  readonly calls: number;
  readonly per_second: number;
  readonly seed: number;
  /** One in so many begins as others do; 0: none. */
  readonly shared_one_in: number;
};

const PROMPT_TOKENS = { least: 200, most: 2_000 };
const OUTPUT_TOKENS = { least: 20, most: 200 };
const BEGINNINGS = 4;
/** A multiple of the 64 tokens that the gateway's pieces have, and of the engine's 16. */
const BEGINNING_TOKENS = 512;
const CHARS_PER_TOKEN = 4;

export function workload({ calls, per_second, seed, shared_one_in }: Workload): readonly LiveCall[] {
  const random = seeded(seed);
  const between = ({ least, most }: { least: number; most: number }) => least + Math.floor(random.next() * (most - least + 1));
  const word = () =>
    Math.floor(random.next() * 46_656)
      .toString(36)
      .padStart(3, "0");
  /** Three characters and a space are a token. */
  const text = (tokens: number) =>
    Array.from({ length: tokens }, () => `${word()} `)
      .join("")
      .slice(0, tokens * CHARS_PER_TOKEN);
  const beginnings = Array.from({ length: BEGINNINGS }, () => text(BEGINNING_TOKENS));
  let at_ms = 0;
  return Array.from({ length: calls }, () => {
    at_ms += (exponential(random) / per_second) * 1_000;
    const shares = shared_one_in > 0 && random.next() < 1 / shared_one_in;
    const beginning = shares ? (beginnings[Math.floor(random.next() * BEGINNINGS)] ?? "") : "";
    return { at_ms, prompt: beginning + text(between(PROMPT_TOKENS)), max_tokens: between(OUTPUT_TOKENS) };
  });
}
