/** What one step computes, reused from step to step: no token costs an allocation. */
import type { EngineRequest, Sequence } from "./sequence.ts";

/** Valid until the next step. The tokens exist at `done_at`. */
export type Step<R extends EngineRequest = EngineRequest> = {
  /** Null: nothing to compute. */
  readonly done_at: number | null;
  /** When the next step may begin: `done_at`, or earlier where pipeline stages follow each other. */
  readonly next_at: number;
  /** Admitted with blocks for KV from elsewhere: fetch `pull_tokens` of it, then say `received` or `abort`. */
  readonly pulls: readonly Sequence<R>[];
  /** One token each. `emitted` counts it already: its index is `emitted - 1`. */
  readonly emitters: readonly Sequence<R>[];
  /** Those of them whose first token it is, and whose last. */
  readonly first: readonly Sequence<R>[];
  readonly finished: readonly Sequence<R>[];
  /** Sequences that this step computes something of. */
  readonly batch: number;
  readonly prefill_tokens: number;
  readonly decode_tokens: number;
};

export class StepBook<R extends EngineRequest> implements Step<R> {
  done_at: number | null = null;
  next_at = 0;
  readonly pulls: Sequence<R>[] = [];
  readonly emitters: Sequence<R>[] = [];
  readonly first: Sequence<R>[] = [];
  readonly finished: Sequence<R>[] = [];
  batch = 0;
  /** What the step time is asked for (profile.ts). */
  readonly work = { tokens: 0, prefill_pairs: 0, decode_context: 0, decodes: 0, prefill_tokens: 0 };
  /** Tokens that it may still take. */
  budget = 0;
  number = 0;

  get tokens(): number {
    return this.work.tokens;
  }
  get prefill_tokens(): number {
    return this.work.prefill_tokens;
  }
  get decode_tokens(): number {
    return this.work.decodes;
  }

  begin(budget: number): void {
    this.done_at = null;
    this.number++;
    this.budget = budget;
    this.batch = 0;
    this.pulls.length = 0;
    this.emitters.length = 0;
    this.first.length = 0;
    this.finished.length = 0;
    const { work } = this;
    work.tokens = 0;
    work.prefill_pairs = 0;
    work.decode_context = 0;
    work.decodes = 0;
    work.prefill_tokens = 0;
  }

  /** One token, computed over `context` tokens. */
  decoded(sequence: Sequence<R>, context: number): void {
    const { work } = this;
    work.tokens++;
    work.decodes++;
    work.decode_context += context;
    this.batch++;
    this.budget--;
    sequence.step = this.number;
    this.emitted(sequence);
  }

  prefilled(sequence: Sequence<R>, fresh: number, pairs: number): void {
    const { work } = this;
    work.tokens += fresh;
    work.prefill_tokens += fresh;
    work.prefill_pairs += pairs;
    this.batch++;
    this.budget -= fresh;
    sequence.step = this.number;
  }

  emitted(sequence: Sequence<R>): void {
    if (sequence.emitted === 0) this.first.push(sequence);
    sequence.emitted++;
    this.emitters.push(sequence);
    if (sequence.emitted >= sequence.request.output_tokens) this.finished.push(sequence);
  }
}
