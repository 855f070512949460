/**
 * One engine process: started, looked at until it is ready, ended. Two instants matter at its end: `exited`, when it can serve
 * nothing more, and `gone`, when its own children are gone too and its GPUs are free.
 *
 * It leads a process group of its own, so that its children are reached and a Ctrl-C in a terminal is not. Its stdin is a pipe
 * whose other end only the agent holds: an engine that watches it ends when the agent dies, however that happens.
 */
import type { ChildProcessByStdio } from "node:child_process";
import { spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import type { Filled } from "./catalogue.ts";
import { READY_ANSWER_MS, READY_LOOK_MS, STRAGGLERS_MS } from "./limits.ts";
import type { LogFile } from "./log-file.ts";
import type { ProcessIdentity } from "./processes.ts";
import { identify, sendToGroup } from "./processes.ts";

const STRAGGLER_LOOK_MS = 5;
/** What an engine finds of the agent's environment: where programs and their libraries are, and no secret. */
const ENV_PASSED = /^(PATH|HOME|USER|LANG|LC_ALL|TMPDIR|TZ|LD_LIBRARY_PATH|HF_HOME|(CUDA|NCCL|UCX|NVIDIA|VLLM|XDG)_[A-Z0-9_]+)$/;

export function passedEnvironment(env: NodeJS.ProcessEnv): Record<string, string> {
  const passed: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) if (ENV_PASSED.test(name) && value !== undefined) passed[name] = value;
  return passed;
}

export class EngineProcess {
  /** Null when it could not be started at all. */
  readonly identity: ProcessIdentity | null;
  /** Says how it ended. */
  readonly exited: Promise<string>;
  readonly gone: Promise<void>;
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  #has_exited = false;

  constructor(filled: Filled, env: Readonly<Record<string, string>>, log: LogFile) {
    const child = spawn(filled.command, filled.args, {
      detached: true,
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...passedEnvironment(process.env), ...filled.env, ...env },
    });
    this.#child = child;
    this.identity = child.pid === undefined ? null : identify(child.pid);
    // A write to it never happens; its end closing first is no error of ours.
    child.stdin.on("error", () => {});
    child.stdout.on("data", (chunk: Buffer) => log.write(chunk));
    child.stderr.on("data", (chunk: Buffer) => log.write(chunk));
    this.exited = new Promise((resolve) => {
      child.on("error", (error) => {
        if (child.pid === undefined) resolve(`cannot be started: ${(error as NodeJS.ErrnoException).code ?? "unknown"}`);
      });
      child.once("exit", (code, signal) => {
        resolve(signal === null ? `exited with code ${code}` : `was ended by ${signal}`);
      });
    });
    // Not at its exit: what it said last may still be in the pipe.
    child.once("close", () => log.close());
    this.gone = this.#untilGone();
  }

  /** True when it answers 200 within the bound; false when the bound is over or it has exited. */
  async ready(url: string, bound_ms: number): Promise<boolean> {
    const give_up = performance.now() + bound_ms;
    while (!this.#has_exited && performance.now() < give_up) {
      if (await answers(url, Math.min(READY_ANSWER_MS, give_up - performance.now()))) return !this.#has_exited;
      await Promise.race([this.exited, new Promise((resolve) => setTimeout(resolve, READY_LOOK_MS))]);
    }
    return false;
  }

  /** SIGTERM, SIGKILL after the bound. Resolves when it is gone. */
  async stop(bound_ms: number): Promise<void> {
    this.#signal("SIGTERM");
    const timer = setTimeout(() => this.#signal("SIGKILL"), bound_ms);
    await this.gone;
    clearTimeout(timer);
  }

  #signal(signal: NodeJS.Signals): void {
    // Until its exit was seen the pid is still the child's, even as a zombie.
    if (this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null)
      sendToGroup(this.#child.pid, signal);
  }

  async #untilGone(): Promise<void> {
    await this.exited;
    this.#has_exited = true;
    await this.#endStragglers();
  }

  async #endStragglers(): Promise<void> {
    const pgid = this.#child.pid;
    if (pgid === undefined) return;
    const give_up = performance.now() + STRAGGLERS_MS;
    while (sendToGroup(pgid, "SIGKILL") && performance.now() < give_up)
      await new Promise((resolve) => setTimeout(resolve, STRAGGLER_LOOK_MS));
  }
}

async function answers(url: string, bound_ms: number): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(Math.max(1, Math.ceil(bound_ms))), redirect: "error" });
    await response.body?.cancel();
    return response.status === 200;
  } catch {
    return false;
  }
}
