/** The command as a script meets it: exit codes, what it prints, what it leaves, the same bytes from two processes. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { scenarioOf } from "./generate.ts";
import { type Scenario, SCENARIO_FORMAT } from "./scenario.ts";

const folder = mkdtempSync(join(tmpdir(), "millrace-sim-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function sim(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(import.meta.dirname, "main.ts"), ...args], { encoding: "utf8" });
  return { status, stdout, stderr };
}
function file(scenario: Scenario): string {
  const path = join(folder, `${Math.trunc(scenario.liveness)}-${scenario.faults.length}.json`);
  writeFileSync(path, JSON.stringify({ format: SCENARIO_FORMAT, commit: "unknown", plant: null, scenario }));
  return path;
}

test("0: all held; two processes say the same bytes, one altered constant says others", () => {
  const json = join(folder, "summary.json");
  const [one, two] = [sim("--seeds", "3", "--digest", "--json", json), sim("--seeds", "3", "--digest", "--threads", "1")];
  expect(one.stdout).toMatch(/^3 runs in .* 3 held, 0 failed, 0 inconclusive\n/);
  expect([one.status, two.status]).toEqual([0, 0]);
  const digest = /^digest ([0-9a-f]{64})$/m.exec(one.stdout)?.[1];
  expect(digest).toBeDefined();
  expect(two.stdout).toContain(`digest ${digest}\n`);
  const summary = JSON.parse(readFileSync(json, "utf8")) as Record<string, unknown>;
  expect(summary).toMatchObject({ seeds: 3, from: 1, runs: 3, failures: [], digest, exit_code: 0 });

  const scenario = scenarioOf(3);
  const [same, altered] = [scenario, { ...scenario, limits: { ...scenario.limits, kv_lease_margin: 1_500_000 as never } }].map((of) => {
    writeFileSync(join(folder, "one.json"), JSON.stringify({ format: SCENARIO_FORMAT, commit: "unknown", plant: null, scenario: of }));
    return /^digest (.*)$/m.exec(sim("--replay", join(folder, "one.json"), "--digest").stdout)?.[1];
  });
  expect(same).toMatch(/^[0-9a-f]{64}$/);
  expect(altered).not.toBe(same);
});

test("1: an invariant was broken; the smallest scenario found shows it again", () => {
  const { status, stdout } = sim("--seed", "1", "--plant", "I3");
  expect(status).toBe(1);
  expect(stdout).toMatch(/^seed 1, commit \S+$/m);
  expect(stdout).toMatch(/^I3 broken at .* hit blocks on .* computed$/m);
  expect(stdout).toContain("again: npm run sim -- --seed 1 --plant I3\n");
  const replay = /^again: npm run sim -- --replay (\S+)$/m.exec(stdout)?.[1] ?? "";
  const kept = JSON.parse(readFileSync(replay, "utf8")) as { scenario: Scenario };
  rmSync(replay);
  expect(kept.scenario.sessions.length).toBeLessThan(scenarioOf(1).sessions.length);
  const again = join(folder, "again.json");
  writeFileSync(again, JSON.stringify({ ...kept, format: SCENARIO_FORMAT, plant: "I3" }));
  expect(sim("--replay", again, "--no-shrink").status).toBe(1);
}, 60_000);

test("2: wrong usage says what to write instead", () => {
  for (const [args, words] of [
    [["--seeds", "none"], "a whole number from 1"],
    [["--plant", "I99"], "Allowed choices are I1, I2"],
    [["--seed", "1", "--seeds", "2"], "cannot be used with"],
    [["--what"], "unknown option"],
    [["--replay", join(folder, "absent.json")], "cannot be read as a scenario"],
  ] as const) {
    const { status, stderr } = sim(...args);
    expect([args, status]).toEqual([args, 2]);
    expect(stderr).toContain(words);
  }
  expect(sim("--help").status).toBe(0);
});

test("3: what has not come to its end in time is named", () => {
  const { status, stdout } = sim("--replay", file({ ...scenarioOf(1), liveness: 1 as never }), "--no-shrink");
  expect(status).toBe(3);
  expect(stdout).toMatch(/^no end at [\d.]+ s, event \d+: \S+/m);
});

test("4: a run in which no fault fired has shown nothing", () => {
  const { status, stdout } = sim("--replay", file({ ...scenarioOf(1), faults: [] }));
  expect(status).toBe(4);
  expect(stdout).toContain("inconclusive: no fault fired\n");
});
