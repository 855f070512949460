/** What is replayed: a trace at a multiple of its own load. Open loop: so many times as fast. Closed loop: so many times as many users. */
import type { CallShape } from "../traces/calls.ts";
import { closedLoop, type SessionSource } from "../traces/closed-loop.ts";
import { openLoop } from "../traces/open-loop.ts";
import type { OpenTrace } from "../traces/trace.ts";
import type { Clients } from "../types.ts";

export interface Workload {
  readonly name: string;
  readonly kind: "open" | "closed";
  /** At multiple 1: calls a second; null where it depends on the cluster (closed loop). */
  readonly calls_per_s: number | null;
  readonly prompt_tokens_mean: number;
  readonly output_tokens_mean: number;
  /** Calls of a whole run at this multiple. */
  calls(multiple: number): number;
  /** Multiples that mean the same load give the same number. */
  level(multiple: number): number;
  /** Calls that do not fit into so many tokens, at multiple 1: their prompts are cut. */
  longerThan(context_tokens: number): number;
  clients(multiple: number, shape: CallShape): Clients;
}

/** `rate`: multiple 1 is the trace so many times as fast. */
export function openWorkload(name: string, trace: OpenTrace, rate: number): Workload {
  const span_s = (trace.at_us(trace.calls - 1) - trace.at_us(0)) / 1e6 / rate;
  let [prompt, output] = [0, 0];
  for (let nth = 0; nth < trace.calls; nth++) {
    const call = trace.call(nth);
    prompt += call.prompt_tokens;
    output += call.output_tokens;
  }
  return {
    name,
    kind: "open",
    calls_per_s: span_s > 0 ? (trace.calls - 1) / span_s : null,
    prompt_tokens_mean: prompt / trace.calls,
    output_tokens_mean: output / trace.calls,
    calls: () => trace.calls,
    level: (multiple) => multiple,
    longerThan(context_tokens) {
      let longer = 0;
      for (let nth = 0; nth < trace.calls; nth++) {
        const call = trace.call(nth);
        if (call.prompt_tokens + call.output_tokens > context_tokens) longer++;
      }
      return longer;
    },
    clients: (multiple, shape) => openLoop(trace, multiple * rate, shape),
  };
}

export type ClosedOptions = {
  /** At multiple 1. */
  readonly users: number;
  readonly stagger_us: number;
  readonly gap_us_max: number;
  readonly calls_max: number | null;
};

/** Each session once, or one for each user if there are more users: then some begin again, with prompts of their own. */
export function closedWorkload(name: string, source: SessionSource, options: ClosedOptions): Workload {
  const sizes = Array.from({ length: source.count }, (_, nth) => sizeOf(source, nth));
  const sum = (of: (size: Size) => number): number => sizes.reduce((total, size) => total + of(size), 0);
  const total = { calls: sum((size) => size.calls), prompt: sum((size) => size.prompt), output: sum((size) => size.output) };
  const users = (multiple: number): number => Math.max(1, Math.round(options.users * multiple));
  const sessions = (multiple: number): number => Math.max(source.count, users(multiple));
  return {
    name,
    kind: "closed",
    calls_per_s: null,
    prompt_tokens_mean: total.prompt / total.calls,
    output_tokens_mean: total.output / total.calls,
    calls(multiple) {
      const n = sessions(multiple);
      let calls = Math.floor(n / source.count) * total.calls;
      for (let i = 0; i < n % source.count; i++) calls += sizes[i]?.calls ?? 0;
      return Math.min(calls, options.calls_max ?? calls);
    },
    level: users,
    longerThan: (context_tokens) =>
      sizes.reduce((longer, size) => longer + size.lengths.filter((tokens) => tokens > context_tokens).length, 0),
    clients: (multiple, shape) =>
      closedLoop(source, { ...options, users: users(multiple), sessions: sessions(multiple), calls_max: options.calls_max }, shape),
  };
}

type Size = { readonly calls: number; readonly prompt: number; readonly output: number; readonly lengths: readonly number[] };

function sizeOf(source: SessionSource, nth: number): Size {
  let [calls, prompt, output] = [0, 0, 0];
  const lengths: number[] = [];
  const scripts = [source.session(nth).script];
  for (let script = scripts.pop(); script !== undefined; script = scripts.pop()) {
    for (const step of script) {
      scripts.push(...step.forks);
      if (step.call === null) continue;
      calls++;
      lengths.push(step.call.prompt_tokens + step.call.output_tokens);
      prompt += step.call.prompt_tokens;
      output += step.call.output_tokens;
    }
  }
  return { calls, prompt, output, lengths };
}
