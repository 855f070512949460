/**
 * Which engines run, on disk before and after each start, so that an agent that was SIGKILLed finds what it left behind. Such
 * engines are not taken over: their stdin pipe broke with the agent, so a well-behaved one is ending already, and one that is not would
 * write its log into nothing. They are ended for good and reported lost.
 */
import { readFileSync } from "node:fs";
import { z } from "zod";
import { writeAtomically } from "./durable.ts";
import { findMarked, isRunning, processIdentity, signalGroup } from "./processes.ts";

const ORPHANS_END_MS = 5_000;
const ORPHAN_LOOK_MS = 5;
/** In each engine's environment and so in that of its children; the value names the state folder's own secret. */
const MARK = "MILLRACE_ENGINE_OF";

const file = z.object({ mark: z.string(), engines: z.array(z.object({ group_id: z.string(), process: processIdentity.nullable() })) });
export type EngineEntry = z.infer<typeof file>["engines"][number];

export class EnginesFile {
  readonly #path: string;
  readonly #mark: string;
  readonly #left: readonly EngineEntry[];

  /** `new_mark` names this state folder if nothing has named it yet. */
  constructor(path: string, new_mark: string) {
    this.#path = path;
    const read = readFile(path);
    this.#mark = read?.mark ?? new_mark;
    this.#left = read?.engines ?? [];
    if (read === null) this.write([]);
  }

  get environment(): Readonly<Record<string, string>> {
    return { [MARK]: this.#mark };
  }

  write(engines: readonly EngineEntry[]): void {
    writeAtomically(this.#path, JSON.stringify({ mark: this.#mark, engines }));
  }

  /** Resolves with the groups that an earlier agent left, once no process of theirs runs. */
  async endOrphans(): Promise<readonly string[]> {
    const give_up = performance.now() + ORPHANS_END_MS;
    for (;;) {
      const leaders = this.#left.flatMap(({ process: leader }) => (leader !== null && isRunning(leader) ? [leader] : []));
      const marked = findMarked(`${MARK}=${this.#mark}`);
      if (leaders.length === 0 && marked.length === 0) break;
      if (performance.now() > give_up)
        throw new Error(`processes of earlier engines do not end: ${[...leaders, ...marked].map((p) => p.pid).join(", ")}`);
      for (const leader of leaders) signalGroup(leader, "SIGKILL");
      for (const straggler of marked) if (isRunning(straggler)) endOne(straggler.pid);
      await new Promise((resolve) => setTimeout(resolve, ORPHAN_LOOK_MS));
    }
    this.write([]);
    return this.#left.map((engine) => engine.group_id);
  }
}

function endOne(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It ended in between.
  }
}

function readFile(path: string): z.infer<typeof file> | null {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
  return file.parse(JSON.parse(text));
}
