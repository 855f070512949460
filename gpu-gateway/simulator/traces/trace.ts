/**
 * What a trace is, once read. Two kinds:
 *  - open loop: calls at instants of their own, whatever becomes of those before them (Mooncake, Azure, metered traffic);
 *  - closed loop: sessions, in which a call follows from the end of the one before it, after tools or thought (coding agents).
 * A trace is read once (async, line by line) and replayed many times (sync, by the simulator), so it lies in memory in columns: about
 * 30 bytes a call and 8 a block of its prompt. How many calls and blocks that may be is limited by name.
 */
import { Blocks, Numbers } from "./columns.ts";

export const TRACE_CALLS_MAX = 10_000_000;
export const TRACE_BLOCKS_MAX = 64_000_000;

/** A call of an open-loop trace. `blocks`: names of the full blocks of its prompt, equal where the trace says they are equal. */
export type TraceCall = {
  readonly at_us: number;
  readonly prompt_tokens: number;
  readonly output_tokens: number;
  readonly tenant: string;
  readonly program: string | null;
  readonly agent: string | null;
  readonly blocks: readonly number[];
};

export class OpenTrace {
  readonly kind = "open";
  /** Of `blocks`; 0: the trace says nothing of prompts' contents. */
  readonly block_tokens: number;
  readonly #at = new Numbers();
  readonly #prompt = new Numbers();
  readonly #output = new Numbers();
  readonly #names: { readonly tenant: string; readonly program: string | null; readonly agent: string | null }[] = [];
  readonly #named = new Map<string, number>();
  readonly #name_of = new Numbers();
  readonly #blocks = new Blocks();
  #order: Uint32Array | null = null;
  #sorted = true;

  constructor(block_tokens: number) {
    this.block_tokens = block_tokens;
  }

  get calls(): number {
    return this.#at.length;
  }
  get blocks(): number {
    return this.#blocks.total;
  }
  /** False: it came out of order and was put in order. */
  get came_sorted(): boolean {
    return this.#sorted;
  }

  push(call: TraceCall): void {
    if (this.calls > 0 && call.at_us < this.#at.at(this.calls - 1)) this.#sorted = false;
    this.#order = null;
    this.#at.push(call.at_us);
    this.#prompt.push(call.prompt_tokens);
    this.#output.push(call.output_tokens);
    const key = JSON.stringify([call.tenant, call.program, call.agent]);
    let name = this.#named.get(key);
    if (name === undefined) {
      name = this.#names.push({ tenant: call.tenant, program: call.program, agent: call.agent }) - 1;
      this.#named.set(key, name);
    }
    this.#name_of.push(name);
    this.#blocks.push(call.blocks);
  }

  /** The nth in order of time; those of one instant in the trace's order. */
  call(nth: number): TraceCall {
    const row = this.#row(nth);
    const named = this.#names[this.#name_of.at(row)];
    if (named === undefined) throw new RangeError(`no call ${nth} in a trace of ${this.calls}`);
    return {
      at_us: this.#at.at(row),
      prompt_tokens: this.#prompt.at(row),
      output_tokens: this.#output.at(row),
      ...named,
      blocks: this.#blocks.at(row),
    };
  }

  at_us(nth: number): number {
    return this.#at.at(this.#row(nth));
  }

  #row(nth: number): number {
    if (this.#sorted) return nth;
    this.#order ??= Uint32Array.from({ length: this.calls }, (_, i) => i).sort((a, b) => this.#at.at(a) - this.#at.at(b) || a - b);
    return this.#order[nth] ?? -1;
  }
}

/** A call of a session. Its prompt begins with the first `keep` blocks of the prompt before it in the same script, then `fresh`. */
export type ScriptCall = {
  readonly prompt_tokens: number;
  readonly output_tokens: number;
  readonly agent: string | null;
  readonly keep: number;
  readonly fresh: ArrayLike<number>;
};
/** Its sub-agents start together; when all have ended, `gap_us` passes; then the call, or, without one, nothing more. */
export type Step = { readonly forks: readonly Script[]; readonly gap_us: number; readonly call: ScriptCall | null };
export type Script = readonly Step[];
/** Equal blocks are equal within one `scope`; null: within the session. */
export type Session = { readonly id: string; readonly scope: string | null; readonly script: Script };

export type ClosedTrace = {
  readonly kind: "closed";
  readonly block_tokens: number;
  readonly sessions: readonly Session[];
};

export type Trace = OpenTrace | ClosedTrace;

/** Something in a trace that is not as its format says. `line` counts from 1; 0: the file as a whole. */
export class TraceFault extends Error {
  readonly file: string;
  readonly line: number;
  readonly what: string;

  constructor(file: string, line: number, what: string) {
    super(`${file}${line > 0 ? `:${line}` : ""}: ${what}`);
    this.file = file;
    this.line = line;
    this.what = what;
  }
}

export const callsOf = (script: Script): number =>
  script.reduce((n, step) => n + (step.call === null ? 0 : 1) + step.forks.reduce((m, fork) => m + callsOf(fork), 0), 0);
