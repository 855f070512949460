/**
 * One child process of the running product, in a process group of its own, so that a terminal's Ctrl-C reaches the
 * supervisor alone and it can stop its children in order.
 *
 * Life: starting → up ⇄ (dead → starting) → stopping → gone. `starting` ends when `ready` resolves. A child that dies while
 * up is started again after a delay that doubles from RESTART_DELAY_MS to RESTART_DELAY_MS_MAX and falls back once the child
 * has stayed up for RESTART_CALM_MS; with restart off its death is reported through `on_death` and it stays dead.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { createWriteStream, mkdirSync, renameSync, statSync, type WriteStream } from "node:fs";
import { dirname } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { groupAlive, processStarted, signalGroup, type ProcessName } from "./process.ts";

const RESTART_DELAY_MS = 250;
const RESTART_DELAY_MS_MAX = 10_000;
const RESTART_CALM_MS = 30_000;
const KILL_POLL_MS = 25;
const WATCH_MS = 3_000;
/** After a miss it is asked again sooner. */
const WATCH_AGAIN_MS = 500;
const WATCH_MISSES_MAX = 3;
/** A log larger than this at start is set aside as `.old`; one predecessor is kept. */
const LOG_BYTES_MAX = 16 * 1_048_576;

export type ChildSpec = {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  readonly log_file: string;
  /** Resolves when the child serves; rejects with one clear line when it will not. `line` reads the child's stdout. */
  readonly ready: (io: ChildIo) => Promise<void>;
  /** Asked every WATCH_MS while the child is up, sooner after a no; after WATCH_MISSES_MAX times no in a row it is taken for dead and ended. */
  readonly alive?: () => Promise<boolean>;
  readonly restart: boolean;
  /** Told as soon as the process exists, so that a start that is killed before it serves can be cleaned up after. */
  readonly on_spawn: (process: ProcessName) => void;
  readonly on_death: (message: string) => void;
};

export type ChildIo = {
  /** Resolves with the first line of stdout that `match` accepts. */
  line(match: (line: string) => boolean): Promise<string>;
  /** Rejects when the child has ended. */
  readonly ended: Promise<never>;
};

export class Child {
  readonly #spec: ChildSpec;
  #process: ChildProcess | null = null;
  #log: WriteStream | null = null;
  #stopping = false;
  #delay_ms = RESTART_DELAY_MS;
  #timer: NodeJS.Timeout | null = null;

  constructor(spec: ChildSpec) {
    this.#spec = spec;
  }

  /** A log that cannot be written (a full disk) costs the log, not the product; the child's next start opens it again. */
  #openLog(): void {
    if (this.#log && !this.#log.destroyed) return;
    const { log_file, name, on_death } = this.#spec;
    try {
      mkdirSync(dirname(log_file), { recursive: true });
      if (statSync(log_file).size > LOG_BYTES_MAX) renameSync(log_file, `${log_file}.old`);
    } catch {
      // No log yet; what else is wrong, opening it says.
    }
    this.#log = createWriteStream(log_file, { flags: "a" });
    // Without a listener the supervisor would end here, and leave all its children.
    this.#log.on("error", (error) => on_death(`the log of ${name} cannot be written until its next start: ${error.message}`));
  }

  /** Starts the child and resolves when it serves. */
  async start(): Promise<void> {
    const { command, cwd, env, name } = this.#spec;
    const born_ms = Date.now();
    this.#openLog();
    const child = spawn(command[0], command.slice(1), { cwd, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
    this.#process = child;
    const started = child.pid === undefined ? null : processStarted(child.pid);
    if (child.pid !== undefined && started !== null) this.#spec.on_spawn({ pid: child.pid, started });
    const waiting = new Set<{ match: (line: string) => boolean; resolve: (line: string) => void }>();
    const last_lines: string[] = [];
    let rest = "";
    const take = (chunk: Buffer): void => {
      if (this.#log && !this.#log.destroyed) this.#log.write(chunk);
      rest += chunk.toString("utf8");
      const lines = rest.split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (line.trim()) last_lines.push(line);
        if (last_lines.length > 5) last_lines.shift();
        for (const wait of waiting) {
          if (!wait.match(line)) continue;
          waiting.delete(wait);
          wait.resolve(line);
        }
      }
    };
    child.stdout.on("data", take);
    child.stderr.on("data", take);

    let serving = false;
    let gone = false;
    const told = () => `${lastWord(last_lines) ?? "it printed nothing"} (log: ${this.#spec.log_file})`;
    const ended = new Promise<never>((_, reject) => {
      child.once("error", (error) => reject(new Error(`${name} cannot be started: ${error.message}`)));
      child.once("exit", (code, signal) => {
        const how = signal ? `was ended by ${signal}` : `ended with code ${code}`;
        gone = true;
        reject(new Error(`${name} ${how}: ${told()}`));
        if (serving) this.#died(`${name} ${how}`, Date.now() - born_ms);
      });
    });
    ended.catch(() => {});
    const line = (match: (line: string) => boolean) =>
      Promise.race([new Promise<string>((resolve) => waiting.add({ match, resolve })), ended]);
    await Promise.race([this.#spec.ready({ line, ended }), ended]).catch((error: unknown) => {
      throw gone || !(error instanceof Error) ? error : new Error(`${error.message}; its last words: ${told()}`);
    });
    serving = true;
    if (this.#spec.alive) this.#watch(child, this.#spec.alive);
  }

  /** A process may live and serve nothing (wrangler whose proxy was killed): its group is ended, and so it is started again. */
  #watch(child: ChildProcess, alive: () => Promise<boolean>): void {
    let misses = 0;
    let answered_ms = Date.now();
    const look = async (): Promise<void> => {
      misses = (await alive()) ? 0 : misses + 1;
      if (this.#stopping || child.exitCode !== null || child.signalCode !== null) return;
      if (misses === 0) answered_ms = Date.now();
      if (misses < WATCH_MISSES_MAX) {
        setTimeout(() => void look(), misses === 0 ? WATCH_MS : WATCH_AGAIN_MS).unref();
        return;
      }
      const silent_s = Math.round((Date.now() - answered_ms) / 1_000);
      this.#spec.on_death(`${this.#spec.name} has answered nothing for ${silent_s} s: ended, to be started again`);
      if (child.pid !== undefined) signalGroup(child.pid, "SIGKILL");
    };
    setTimeout(() => void look(), WATCH_MS).unref();
  }

  #died(message: string, lived_ms: number): void {
    if (this.#stopping) return;
    this.#sweep();
    if (!this.#spec.restart) {
      this.#spec.on_death(`${message}; it stays down (--no-restart)`);
      return;
    }
    if (lived_ms > RESTART_CALM_MS) this.#delay_ms = RESTART_DELAY_MS;
    const delay_ms = this.#delay_ms;
    this.#delay_ms = Math.min(delay_ms * 2, RESTART_DELAY_MS_MAX);
    this.#spec.on_death(`${message}; starting it again in ${delay_ms} ms`);
    this.#timer = setTimeout(() => this.#again(), delay_ms);
  }

  #again(): void {
    this.start().catch((error: unknown) => {
      if (this.#stopping) return;
      this.#sweep();
      this.#died(error instanceof Error ? error.message : String(error), 0);
    });
  }

  /** What the dead child left in its group would hold its port. */
  #sweep(): void {
    if (this.#process?.pid !== undefined) signalGroup(this.#process.pid, "SIGKILL");
  }

  /** SIGTERM, then SIGKILL to the group after `bound_ms`; resolves when no process of the group is left. */
  async stop(bound_ms: number): Promise<void> {
    this.#stopping = true;
    if (this.#timer) clearTimeout(this.#timer);
    const pid = this.#process?.pid;
    if (pid !== undefined) await stopGroup(pid, bound_ms);
    const log = this.#log;
    if (log && !log.destroyed) await new Promise<void>((resolve) => log.once("close", resolve).end());
  }
}

/** The last line that says something: without colours, and without the stack that some put behind their message. */
function lastWord(lines: readonly string[]): string | undefined {
  const plain = lines.map((line) =>
    stripVTControlCharacters(line)
      .replace(/\s{2,}at .*$/, "")
      .trim(),
  );
  return plain.findLast((line) => line !== "" && !line.startsWith("at "));
}

/** Ends a process group: SIGTERM first; after `bound_ms` SIGKILL. */
export async function stopGroup(pid: number, bound_ms: number): Promise<void> {
  signalGroup(pid, "SIGTERM");
  const kill_at_ms = Date.now() + bound_ms;
  let killed = false;
  while (groupAlive(pid)) {
    if (!killed && Date.now() > kill_at_ms) killed = signalGroup(pid, "SIGKILL");
    if (killed && Date.now() > kill_at_ms + bound_ms) return;
    await new Promise((resolve) => setTimeout(resolve, KILL_POLL_MS));
  }
}
