/** What is known of all runs so far, and how it is told. */
import { INVARIANTS, type Invariant } from "../checkers/checker.ts";
import { FAULT_KINDS, type FaultKind } from "../faults/fault.ts";
import type { Done } from "./messages.ts";
import type { RunOutcome, RunReport } from "./run.ts";

/** Failing seeds that are listed; beyond it they are counted. */
const LISTED_MAX = 10;

export const EXIT = { ok: 0, broken: 1, usage: 2, liveness: 3, inconclusive: 4, interrupted: 130 } as const;

export class Summary {
  readonly failures: { readonly seed: number; readonly outcome: RunOutcome }[] = [];
  runs = 0;
  events = 0;
  records = 0;
  virtual_us = 0;
  wall_ms = 0;
  readonly fired: Partial<Record<FaultKind, number>> = {};
  readonly ended: Record<string, number> = {};
  readonly unchecked: Partial<Record<Invariant, number>> = {};
  inconclusive = 0;

  add({ report, wall_ms }: Done): void {
    this.runs += 1;
    this.events += report.events;
    this.records += report.records;
    this.virtual_us += report.virtual;
    this.wall_ms += wall_ms;
    for (const kind of FAULT_KINDS)
      if (report.fired[kind] !== undefined) this.fired[kind] = (this.fired[kind] ?? 0) + (report.fired[kind] ?? 0);
    for (const [how, count] of Object.entries(report.ended)) this.ended[how] = (this.ended[how] ?? 0) + count;
    for (const invariant of INVARIANTS)
      if (report.verdicts[invariant]?.type === "unchecked") this.unchecked[invariant] = (this.unchecked[invariant] ?? 0) + 1;
    if (report.outcome.type === "inconclusive") this.inconclusive += 1;
    else if (report.outcome.type !== "ok") this.failures.push({ seed: report.seed, outcome: report.outcome });
  }

  /** A broken invariant outweighs a missing end, and that a run that showed nothing. */
  get exit_code(): number {
    if (this.failures.some(({ outcome }) => outcome.type === "broken" || outcome.type === "threw")) return EXIT.broken;
    if (this.failures.length > 0) return EXIT.liveness;
    return this.inconclusive > 0 || this.runs === 0 ? EXIT.inconclusive : EXIT.ok;
  }

  /** The lowest seed's. */
  get first(): { readonly seed: number; readonly outcome: RunOutcome } | undefined {
    return this.failures.toSorted((a, b) => a.seed - b.seed)[0];
  }

  text(elapsed_ms: number): string {
    const calls = Object.values(this.ended).reduce((sum, count) => sum + count, 0);
    const lines = [
      `${this.runs} runs in ${(elapsed_ms / 1_000).toFixed(1)} s: ${this.runs - this.failures.length - this.inconclusive} held, ` +
        `${this.failures.length} failed, ${this.inconclusive} inconclusive`,
      `${calls} calls (${list(this.ended)}), ${this.events} events, ${this.records} metering records, ${Math.round(this.virtual_us / 60e6)} minutes of virtual time`,
      `faults: ${list(this.fired)}`,
      `not checked, in so many runs: ${list(this.unchecked) || "none"}`,
    ];
    for (const { seed, outcome } of this.failures.toSorted((a, b) => a.seed - b.seed).slice(0, LISTED_MAX))
      lines.push(`seed ${seed}: ${told(outcome).split("\n", 1)[0]}`);
    if (this.failures.length > LISTED_MAX) lines.push(`… and ${this.failures.length - LISTED_MAX} more`);
    return `${lines.join("\n")}\n`;
  }
}

export function told(outcome: RunOutcome): string {
  switch (outcome.type) {
    case "ok":
      return "held";
    case "inconclusive":
      return "inconclusive: no fault fired";
    case "broken":
      return `${outcome.invariant} broken ${seconds(outcome.at)}, event ${outcome.events}: ${outcome.words}`;
    case "liveness":
      return `no end ${seconds(outcome.at)}, event ${outcome.events}: ${outcome.words}`;
    case "threw":
      return `an exception ${seconds(outcome.at)}, event ${outcome.events}: ${outcome.words}`;
  }
}

export const isFailure = ({ outcome }: RunReport): boolean => outcome.type !== "ok" && outcome.type !== "inconclusive";

const seconds = (at: number): string => `at ${(at / 1e6).toFixed(6)} s`;
const list = (counts: Readonly<Record<string, number | undefined>>): string =>
  Object.entries(counts)
    .map(([name, count]) => `${name} ${count}`)
    .join(", ");
