/** What `npm run sim` may be told. All that is wrong with it is told at once, with what to write instead. */
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { PLANTED, type Plant, PLANTS } from "./plants.ts";

export type SimOptions = {
  readonly seeds: number;
  readonly from: number;
  readonly plant: Plant | null;
  readonly json: string | null;
  readonly replay: string | null;
  readonly digest: boolean;
  readonly threads: number;
  readonly shrink: boolean;
};
export type Parsed =
  | { readonly type: "options"; readonly options: SimOptions }
  /** Help was asked for, and printed. */
  | { readonly type: "helped" }
  /** Wrong, and said so. */
  | { readonly type: "wrong" };

const SEEDS_DEFAULT = 100;
const THREADS_MAX = 64;

type Flags = {
  seeds?: number;
  fromSeed?: number;
  seed?: number;
  plant?: Plant;
  json?: string;
  replay?: string;
  digest?: true;
  threads: number;
  shrink: boolean;
};

export function parseOptions(
  argv: readonly string[],
  out: { readonly stdout: (text: string) => void; readonly stderr: (text: string) => void },
): Parsed {
  const command = new Command("npm run sim --")
    .description("Run random clusters, clients and faults in virtual time against the invariants (docs/simulation.md).")
    .option("--seeds <n>", `how many seeds (default ${SEEDS_DEFAULT})`, whole(1))
    .option("--from-seed <n>", "the first of them (default 1)", whole(0))
    .addOption(new Option("--seed <n>", "this one seed").argParser(whole(0)).conflicts(["seeds", "fromSeed"]))
    .addOption(new Option("--replay <file>", "the scenario in this file, as a failure left it").conflicts(["seeds", "fromSeed", "seed"]))
    .addOption(
      new Option("--plant <invariant>", `plant a bug: ${PLANTS.map((plant) => `${plant}, ${PLANTED[plant]}`).join("; ")}`).choices(PLANTS),
    )
    .option("--json <file>", "write the summary there as JSON")
    .option("--digest", "print a SHA-256 over all events and effects")
    .option("--threads <n>", "threads that share the seeds", whole(1, THREADS_MAX), 2)
    .option("--no-shrink", "do not look for a smaller scenario after a failure")
    .configureOutput({ writeOut: out.stdout, writeErr: out.stderr })
    .showHelpAfterError("(run with --help to see what is possible)")
    .exitOverride();
  try {
    command.parse(argv, { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return { type: error.exitCode === 0 ? "helped" : "wrong" };
  }
  const flags = command.opts<Flags>();
  const { plant = null, json = null, replay = null, digest = false, threads, shrink } = flags;
  const seeds = flags.seed === undefined ? (flags.seeds ?? SEEDS_DEFAULT) : 1;
  return { type: "options", options: { seeds, from: flags.seed ?? flags.fromSeed ?? 1, plant, json, replay, digest, threads, shrink } };
}

function whole(least: number, most = Number.MAX_SAFE_INTEGER) {
  return (text: string): number => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most)
      throw new InvalidArgumentError(
        most === Number.MAX_SAFE_INTEGER ? `a whole number from ${least}.` : `a whole number from ${least} to ${most}.`,
      );
    return value;
  };
}
