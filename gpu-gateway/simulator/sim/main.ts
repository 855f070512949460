/**
 * `npm run sim`: seeds in, a verdict out (docs/simulation.md). Exit codes: 0 all held, 1 an invariant was broken, 2 wrong usage, 3 something
 * never came to its end, 4 inconclusive (no fault fired), 130 interrupted.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Crew } from "./crew.ts";
import { scenarioOf } from "./generate.ts";
import { doJob } from "./job.ts";
import type { Job } from "./messages.ts";
import { parseOptions, type SimOptions } from "./options.ts";
import type { Plant } from "./plants.ts";
import { runScenario, type RunOutcome } from "./run.ts";
import { type Scenario, SCENARIO_FORMAT } from "./scenario.ts";
import { shrink } from "./shrink.ts";
import { EXIT, isFailure, Summary, told } from "./summary.ts";

/** Every so many seeds one is run twice (I9). */
const TWICE_EVERY = 25;
const PROGRESS_MS = 5_000;
const SHRINK_RUNS_MAX = 400;
const SHRINK_MS_MAX = 60_000;

type Kept = {
  readonly format: number;
  readonly commit: string;
  readonly plant: Plant | null;
  readonly scenario: Scenario & { readonly format: number };
};

const say = (text: string): void => void process.stdout.write(text);
const complain = (text: string): void => void process.stderr.write(text);

async function main(): Promise<number> {
  const parsed = parseOptions(process.argv.slice(2), { stdout: say, stderr: complain });
  if (parsed.type !== "options") return parsed.type === "helped" ? EXIT.ok : EXIT.usage;
  const { options } = parsed;
  // As it is now: files may change while it runs.
  commit();
  if (options.replay !== null) return replay(options, options.replay);
  if (options.seeds === 1)
    return one(options, { type: "seed", seed: options.from, plant: options.plant, digest: options.digest, twice: true });
  return many(options);
}

async function many(options: SimOptions): Promise<number> {
  const { seeds, from, plant, digest, threads } = options;
  const summary = new Summary();
  const digests = new Map<number, string>();
  const began = performance.now();
  const crew = new Crew();
  let interrupted = false;
  process.once("SIGINT", () => {
    interrupted = true;
    void crew.stop();
  });
  const progress = setInterval(() => {
    const left_s = ((performance.now() - began) / Math.max(1, summary.runs)) * (seeds - summary.runs) * 1e-3;
    complain(`sim: ${summary.runs} of ${seeds} seeds, ${summary.failures.length} failed, about ${Math.ceil(left_s)} s left\n`);
  }, PROGRESS_MS);
  function* jobs(): Generator<Job> {
    for (let seed = from; seed < from + seeds; seed++) yield { type: "seed", seed, plant, digest, twice: seed % TWICE_EVERY === 0 };
  }
  try {
    await crew.run(jobs(), Math.min(threads, seeds), (_job, done) => {
      summary.add(done);
      if (isFailure(done.report)) complain(`sim: seed ${done.report.seed} failed: ${told(done.report.outcome).split("\n", 1)[0]}\n`);
      if (done.digest !== null) digests.set(done.report.seed, done.digest);
    });
  } finally {
    clearInterval(progress);
  }
  const elapsed_ms = performance.now() - began;
  say(summary.text(elapsed_ms));
  const whole = digest ? digestOf(digests) : null;
  if (whole !== null) say(`digest ${whole}\n`);
  writeJson(options, summary, elapsed_ms, whole);
  if (interrupted) {
    say(`interrupted after ${summary.runs} of ${seeds} seeds\n`);
    return summary.failures.length > 0 ? summary.exit_code : EXIT.interrupted;
  }
  const { first } = summary;
  if (first !== undefined) tellFailure(options, scenarioOf(first.seed), first.outcome, `--seed ${first.seed}`);
  return summary.exit_code;
}

function one(options: SimOptions, job: Job): number {
  const began = performance.now();
  const done = doJob(job);
  const summary = new Summary();
  summary.add(done);
  const elapsed_ms = performance.now() - began;
  say(summary.text(elapsed_ms));
  if (done.report.outcome.type === "inconclusive") say(`${told(done.report.outcome)}\n`);
  const whole = options.digest && done.digest !== null ? digestOf(new Map([[done.report.seed, done.digest]])) : null;
  if (whole !== null) say(`digest ${whole}\n`);
  writeJson(options, summary, elapsed_ms, whole);
  if (isFailure(done.report)) {
    const [scenario, command] =
      job.type === "seed" ? [scenarioOf(job.seed), `--seed ${job.seed}`] : [job.scenario, `--replay ${options.replay}`];
    tellFailure(options, scenario, done.report.outcome, command);
  }
  return summary.exit_code;
}

function replay(options: SimOptions, file: string): number {
  let kept: Kept | null;
  try {
    kept = JSON.parse(readFileSync(file, "utf8")) as Kept | null;
  } catch (error) {
    complain(`sim: ${file} cannot be read as a scenario: ${error instanceof Error ? error.message : String(error)}\n`);
    return EXIT.usage;
  }
  if (kept?.format !== SCENARIO_FORMAT || kept.scenario?.format !== SCENARIO_FORMAT) {
    complain(`sim: ${file} is no scenario of format ${SCENARIO_FORMAT}; a failing run writes one, and says where\n`);
    return EXIT.usage;
  }
  if (kept.commit !== commit()) complain(`sim: ${file} is of commit ${kept.commit}, this is ${commit()}: it may go another way\n`);
  const plant = options.plant ?? kept.plant;
  return one({ ...options, plant }, { type: "scenario", scenario: kept.scenario, plant, digest: options.digest, twice: true });
}

/** The seed, the commit, the checker's words, the smallest scenario found, and the commands that show it again. */
function tellFailure({ plant, shrink: wanted }: SimOptions, scenario: Scenario, outcome: RunOutcome, command: string): void {
  const planted = plant === null ? "" : ` --plant ${plant}`;
  say(`\nseed ${scenario.seed}, commit ${commit()}\n${told(outcome)}\nagain: npm run sim -- ${command}${planted}\n`);
  if (!wanted || (outcome.type === "broken" && outcome.words.startsWith("run again"))) return;
  const until = performance.now() + SHRINK_MS_MAX;
  const found = shrink(scenario, outcome, (candidate) => runScenario(candidate, { plant }).outcome, {
    runs_max: SHRINK_RUNS_MAX,
    out_of_time: () => performance.now() > until,
  });
  const file = join(tmpdir(), `millrace-sim-${scenario.seed}${plant === null ? "" : `-${plant}`}.json`);
  const kept: Kept = { format: SCENARIO_FORMAT, commit: commit(), plant, scenario: found.scenario };
  writeFileSync(file, `${JSON.stringify(kept, null, 2)}\n`);
  say(
    `smallest of ${found.runs} tried: ${sizeOf(found.scenario)}; before ${sizeOf(scenario)}\n${told(found.outcome)}\nagain: npm run sim -- --replay ${file}\n`,
  );
}

const sizeOf = ({ sessions, faults }: Scenario): string =>
  `${sessions.length} sessions with ${sessions.reduce((sum, { calls }) => sum + calls.length, 0)} calls, ${faults.length} faults`;

/** Of all runs: of each by its seed, whichever thread had it. */
function digestOf(digests: ReadonlyMap<number, string>): string {
  const hash = createHash("sha256");
  for (const [seed, digest] of [...digests].toSorted(([a], [b]) => a - b)) hash.update(`${seed} ${digest}\n`);
  return hash.digest("hex");
}

function writeJson({ json, seeds, from, plant }: SimOptions, summary: Summary, elapsed_ms: number, digest: string | null): void {
  if (json === null) return;
  const { runs, failures, inconclusive, events, records, fired, ended, unchecked, exit_code } = summary;
  const virtual_s = Math.round(summary.virtual_us / 1e6);
  const all = {
    commit: commit(),
    from,
    seeds,
    plant,
    runs,
    failures,
    inconclusive,
    ended,
    events,
    records,
    virtual_s,
    fired,
    unchecked,
    elapsed_ms,
    digest,
    exit_code,
  };
  writeFileSync(json, `${JSON.stringify(all, null, 2)}\n`);
}

let commit_known: string | null = null;
/** With `+` when files differ from it; "unknown" outside a checkout. */
function commit(): string {
  if (commit_known !== null) return commit_known;
  const git = (...args: string[]) => spawnSync("git", args, { cwd: import.meta.dirname, encoding: "utf8" });
  const head = git("rev-parse", "--short=12", "HEAD");
  const changed = git("diff", "--quiet", "HEAD").status === 1;
  return (commit_known = head.status === 0 ? `${head.stdout.trim()}${changed ? "+" : ""}` : "unknown");
}

process.exitCode = await main();
