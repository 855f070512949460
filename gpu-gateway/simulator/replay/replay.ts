/**
 * Tells a scheduler, made from a recording's header, what the recorded one was told, and compares what it says (I9). Fed line by line; reads
 * no clock and no file.
 *
 *   header → decisions → footer
 *
 * Once it has said something else, what it is told no longer follows from what it said: it is told on, for the digest, and asked no more when it
 * throws.
 */
import { choosePolicies, type PolicyChoice } from "../../policy/catalogue.ts";
import { type Decision, digested, type DecisionsFooter } from "../../policy/recording.ts";
import { createScheduler, type Scheduler } from "../../policy/scheduler.ts";
import { alter } from "./alter.ts";
import { readLine } from "./recording.ts";

export interface Digest {
  update(text: string): unknown;
  hex(): string;
}

export type Difference = {
  readonly line: number;
  readonly nth: number;
  readonly decision: Decision;
  /** As JSON, or why there is none. */
  readonly replayed: string;
};
export type Replayed = {
  readonly events: number;
  /** Of what was recorded, by the lines themselves, and of what was said now. */
  readonly recorded: string;
  readonly replayed: string;
  readonly difference: Difference | null;
  /** Null: the recording was cut off. */
  readonly footer: DecisionsFooter | null;
};
export type ReplayOutcome =
  | { readonly type: "replayed"; readonly result: Replayed }
  | { readonly type: "malformed"; readonly line: number; readonly what: string }
  | { readonly type: "unusable"; readonly fault: string };

export type ReplayOptions = {
  /** `name=value`, or null. */
  readonly alter: string | null;
  /** A recording whose gateway died: no footer, and its last line may be cut. */
  readonly unfinished: boolean;
};

export class Replay {
  readonly #options: ReplayOptions;
  readonly #recorded: Digest;
  readonly #replayed: Digest;
  #scheduler: Scheduler | null = null;
  #line = 0;
  #events = 0;
  #at = 0;
  #difference: Difference | null = null;
  #footer: DecisionsFooter | null = null;
  #over: Exclude<ReplayOutcome, { type: "replayed" }> | null = null;
  /** A line that could not be read: all is well with it only if it is the last of an unfinished one. */
  #cut: Exclude<ReplayOutcome, { type: "replayed" }> | null = null;
  #broken = false;

  constructor(options: ReplayOptions, digest: () => Digest) {
    this.#options = options;
    this.#recorded = digest();
    this.#replayed = digest();
  }

  /** Null: it was longer than a line may be. False: nothing more need be read. */
  take(text: string | null): boolean {
    this.#over ??= this.#cut;
    if (this.#over !== null) return false;
    this.#line += 1;
    const line = text === null ? { type: "malformed" as const, what: "the line is too long" } : readLine(text, this.#line === 1);
    if (line.type === "malformed") {
      const malformed = { type: "malformed" as const, line: this.#line, what: line.what };
      if (this.#options.unfinished && this.#line > 1) this.#cut = malformed;
      else this.#over = malformed;
      return this.#over === null;
    }
    if (this.#footer !== null) return this.#malformed("there is more after the last line of the recording");
    if (line.type === "header") return this.#begin(line.header.policies);
    if (line.type === "decision") return this.#decide(line.decision);
    return this.#end(line.footer);
  }

  outcome(): ReplayOutcome {
    if (this.#over !== null) return this.#over;
    if (this.#line === 0) return { type: "malformed", line: 1, what: "the file is empty" };
    if (this.#footer === null && !this.#options.unfinished)
      return {
        type: "malformed",
        line: this.#line + 1,
        what: "the recording has no last line: its gateway died, or still runs; --unfinished takes what there is",
      };
    const result = {
      events: this.#events,
      recorded: this.#recorded.hex(),
      replayed: this.#replayed.hex(),
      difference: this.#difference,
      footer: this.#footer,
    };
    return { type: "replayed", result };
  }

  #begin(recorded: PolicyChoice): boolean {
    const changed = this.#options.alter === null ? null : alter(recorded, this.#options.alter);
    if (changed?.type === "fault") return this.#unusable(changed.fault);
    const { names, ...options } = changed?.policies ?? recorded;
    try {
      const choice = choosePolicies(names, options);
      if (choice.type === "faults") return this.#unusable(choice.faults.join("; "));
      this.#scheduler = createScheduler(choice.config);
      return true;
    } catch (error) {
      // A limit that the scheduler does not take.
      return this.#unusable(wordsOf(error));
    }
  }

  #decide(decision: Decision): boolean {
    const { at, event, effects } = decision;
    if (at < this.#at) return this.#malformed(`at: ${at} is before the event above it (${this.#at})`);
    this.#at = at;
    this.#events += 1;
    const recorded = JSON.stringify(effects);
    this.#recorded.update(digested(recorded));
    if (this.#broken || this.#scheduler === null) return true;
    let replayed: string;
    try {
      replayed = JSON.stringify(this.#scheduler.handle(event, at));
      this.#replayed.update(digested(replayed));
    } catch (error) {
      this.#broken = true;
      replayed = `the scheduler threw: ${wordsOf(error)}`;
    }
    if (replayed !== recorded) this.#difference ??= { line: this.#line, nth: this.#events, decision, replayed };
    return true;
  }

  #end(footer: DecisionsFooter): boolean {
    this.#footer = footer;
    if (footer.events !== this.#events)
      return this.#malformed(`${footer.events} events were recorded; there are ${this.#events} lines of them`);
    if (footer.digest !== this.#recorded.hex()) return this.#malformed("the digest is not that of the lines above: the file was changed");
    return true;
  }

  #malformed(what: string): false {
    this.#over = { type: "malformed", line: this.#line, what };
    return false;
  }
  #unusable(fault: string): false {
    this.#over = { type: "unusable", fault };
    return false;
  }
}

const wordsOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
