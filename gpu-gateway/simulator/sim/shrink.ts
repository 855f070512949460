/**
 * The smallest scenario that still fails in the same way: the same invariant broken, the same kind of end. Takes out faults, sessions and
 * calls, in halves, then one by one (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002), and ends the first
 * phase sooner, for as long as it may. Each candidate is run anew: nothing is assumed of why it failed.
 */
import { type Micros, micros } from "../../../schema/core/time.ts";
import type { RunOutcome } from "./run.ts";
import type { Scenario } from "./scenario.ts";

export type Shrunk = { readonly scenario: Scenario; readonly outcome: RunOutcome; readonly runs: number };
export type ShrinkBudget = {
  readonly runs_max: number;
  /** Asked before each run: true ends it. */
  readonly out_of_time: () => boolean;
};

export function shrink(scenario: Scenario, outcome: RunOutcome, run: (scenario: Scenario) => RunOutcome, budget: ShrinkBudget): Shrunk {
  let best = { scenario, outcome };
  let runs = 0;
  const spent = (): boolean => runs >= budget.runs_max || budget.out_of_time();

  function fails(candidate: Scenario): boolean {
    if (spent()) return false;
    runs += 1;
    const found = run(candidate);
    if (!sameKind(found, outcome)) return false;
    best = { scenario: candidate, outcome: found };
    return true;
  }

  function fewer<T>(listOf: (scenario: Scenario) => readonly T[], withList: (scenario: Scenario, list: readonly T[]) => Scenario): void {
    for (let size = Math.ceil(listOf(best.scenario).length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2))
      for (let from = 0; from < listOf(best.scenario).length && !spent();) {
        const list = listOf(best.scenario);
        if (!fails(withList(best.scenario, [...list.slice(0, from), ...list.slice(from + size)]))) from += size;
      }
  }

  for (let before = ""; before !== JSON.stringify(best.scenario) && !spent();) {
    before = JSON.stringify(best.scenario);
    if ("at" in best.outcome) fails(endedSooner(best.scenario, best.outcome.at));
    fewer(
      ({ faults }) => faults,
      (of, faults) => ({ ...of, faults }),
    );
    fewer(
      ({ sessions }) => sessions,
      (of, sessions) => ({ ...of, sessions }),
    );
    for (let n = 0; n < best.scenario.sessions.length; n++)
      fewer(
        ({ sessions }) => sessions[n]?.calls ?? [],
        (of, calls) => ({ ...of, sessions: of.sessions.map((session, at) => (at === n ? { ...session, calls } : session)) }),
      );
  }
  return { ...best, runs };
}

function sameKind(a: RunOutcome, b: RunOutcome): boolean {
  if (a.type === "broken" && b.type === "broken") return a.invariant === b.invariant;
  return a.type === b.type;
}

/** The first phase needs to be no longer than the failure took: what was to come after it is left out. */
function endedSooner(scenario: Scenario, at: Micros): Scenario {
  const heals_at = micros(Math.min(scenario.heals_at, at + 1_000_000));
  const faults = scenario.faults.filter((fault) => fault.at < heals_at);
  return {
    ...scenario,
    heals_at,
    faults: faults.map((fault) => ("lasts" in fault ? { ...fault, lasts: micros(Math.min(fault.lasts, heals_at - fault.at)) } : fault)),
  };
}
