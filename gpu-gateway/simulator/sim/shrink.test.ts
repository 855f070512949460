import { expect, test } from "vitest";
import { micros } from "../../../schema/core/time.ts";
import { scenarioOf } from "./generate.ts";
import type { RunOutcome } from "./run.ts";
import type { Scenario } from "./scenario.ts";
import { shrink } from "./shrink.ts";

const broken = (at: number): RunOutcome => ({ type: "broken", invariant: "I4", at: micros(at), words: "it is", events: 1 });
const generous = { runs_max: 1_000, out_of_time: () => false };

/** Fails when one session and one fault of a certain kind are there, whatever else is. */
const wrong = ({ sessions, faults }: Scenario): RunOutcome =>
  sessions.some(({ name }) => name === "ses_02") && faults.some(({ kind }) => kind === "link_cut") ? broken(9_000_000) : { type: "ok" };
const big: Scenario = {
  ...scenarioOf(1),
  faults: [1, 5, 8, 30].map((s) => ({ kind: s === 5 ? "link_cut" : "client_cut", at: micros(s * 1e6), which: 0 })),
};

test("what is not needed is left out, and the first phase ends when it has failed", () => {
  const { scenario, outcome } = shrink(big, broken(9_000_000), wrong, generous);
  expect(scenario.sessions.map(({ name, calls }) => [name, calls.length])).toEqual([["ses_02", 0]]);
  expect(scenario.faults.map(({ kind }) => kind)).toEqual(["link_cut"]);
  expect(scenario.heals_at).toBe(10_000_000);
  expect(outcome).toEqual(broken(9_000_000));
});

test("another failure is not the one that was looked for", () => {
  const other: RunOutcome = { type: "broken", invariant: "I8", at: micros(0), words: "it is", events: 1 };
  expect(
    shrink(big, broken(9_000_000), (one) => (one.faults.length < 3 ? other : wrong(one)), generous).scenario.faults.length,
  ).toBeGreaterThanOrEqual(3);
});

test("it stops at its budget with the best so far", () => {
  const { runs, scenario } = shrink(big, broken(9_000_000), wrong, { ...generous, runs_max: 3 });
  expect(runs).toBe(3);
  expect(wrong(scenario)).toEqual(broken(9_000_000));
});
