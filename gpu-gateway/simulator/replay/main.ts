/**
 * `node gpu-gateway/simulator/replay/main.ts FILE [--alter NAME=VALUE] [--unfinished] [--json]`: a recording of decisions (`record_decisions`
 * of a gateway's configuration), decided again by the same policies in virtual time (docs/simulation.md).
 *
 * Exit codes: 0 the same decisions in the same order; 1 others, and the first that differs is shown; 2 the recording is malformed, and
 * which line; 64 the command is not as it should be.
 */
import { createHash } from "node:crypto";
import { parseArgs } from "node:util";
import { linesOf } from "../traces/bytes.ts";
import { TraceFault } from "../traces/trace.ts";
import { Replay, type Difference, type Digest, type ReplayOptions, type ReplayOutcome } from "./replay.ts";

const EXIT = { same: 0, different: 1, malformed: 2, usage: 64 } as const;
const SHOWN_CHARS = 2_000;
const USAGE = "replay FILE [--alter NAME=VALUE] [--unfinished] [--json]";

const say = (line: string): void => void process.stdout.write(`${line}\n`);

function complain(line: string, code: number): number {
  process.stderr.write(`replay: ${line}\n`);
  return code;
}

function sha256(): Digest {
  const hash = createHash("sha256");
  return { update: (text) => hash.update(text), hex: () => hash.copy().digest("hex") };
}

async function replayFile(file: string, options: ReplayOptions): Promise<ReplayOutcome> {
  const replay = new Replay(options, sha256);
  for await (const { text } of linesOf(file)) if (!replay.take(text)) break;
  return replay.outcome();
}

function tellDifference({ line, nth, decision, replayed }: Difference): void {
  const { at, event, effects } = decision;
  say(`the first that differs is decision ${nth} (line ${line}), ${(at / 1_000_000).toFixed(6)} s`);
  say(`  told      ${shortened(JSON.stringify(event))}`);
  say(`  recorded  ${shortened(JSON.stringify(effects))}`);
  say(`  replayed  ${shortened(replayed)}`);
}

const shortened = (text: string): string => (text.length <= SHOWN_CHARS ? text : `${text.slice(0, SHOWN_CHARS)}…`);

async function main(args: readonly string[]): Promise<number> {
  let parsed;
  try {
    const flags = { alter: { type: "string" }, unfinished: { type: "boolean" }, json: { type: "boolean" } } as const;
    parsed = parseArgs({ args: [...args], allowPositionals: true, options: flags });
  } catch (error) {
    return complain(`${error instanceof Error ? error.message : String(error)}; ${USAGE}`, EXIT.usage);
  }
  const { positionals, values } = parsed;
  const [file] = positionals;
  if (file === undefined || positionals.length > 1) return complain(`one recording at a time: ${USAGE}`, EXIT.usage);
  let outcome: ReplayOutcome;
  try {
    outcome = await replayFile(file, { alter: values.alter ?? null, unfinished: values.unfinished === true });
  } catch (error) {
    if (!(error instanceof TraceFault)) throw error;
    return complain(error.message, error.line > 0 ? EXIT.malformed : EXIT.usage);
  }
  if (outcome.type === "unusable") return complain(outcome.fault, EXIT.usage);
  if (outcome.type === "malformed") return complain(`${file}, line ${outcome.line}: ${outcome.what}`, EXIT.malformed);
  const { result } = outcome;
  const same = result.difference === null;
  if (values.json === true) say(JSON.stringify({ same, ...result }));
  else {
    say(`${result.events} events${result.footer === null ? ", cut off" : `, ${result.footer.end}`}`);
    say(`recorded  ${result.recorded}`);
    say(`replayed  ${result.replayed}${values.alter === undefined ? "" : `  with ${values.alter}`}`);
    say(same ? "the same decisions in the same order" : "other decisions");
    if (result.difference !== null) tellDifference(result.difference);
  }
  return same ? EXIT.same : EXIT.different;
}

process.exitCode = await main(process.argv.slice(2));
