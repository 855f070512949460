/** Starts a simulated instance as a child process, for tests and benches. It ends with its parent: its stdin is our pipe. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { SimulatedRole } from "./flags.ts";

export const SIMULATED_MAIN = fileURLToPath(new URL("./main.ts", import.meta.url));

export type LaunchOptions = {
  readonly port?: number;
  readonly role?: SimulatedRole;
  readonly model?: string;
  readonly tp?: number;
  readonly pp?: number;
  readonly engine_id?: string;
  readonly speed?: number;
  readonly kv_tokens?: number;
  readonly context?: number;
  readonly max_num_seqs?: number;
  /** Absent: 0, unlike the process itself, which takes the model's time. */
  readonly load_ms?: number;
  readonly kv_lease_ms?: number;
  readonly sim_control?: boolean;
};

export type Launched = {
  readonly url: string;
  readonly pid: number;
  readonly engine_id: string;
  /** The exit status, once the process has ended of itself or by us; null after a signal. */
  readonly ended: Promise<number | null>;
  /** Ends the process and waits until it has ended. `SIGKILL` for a crash. */
  stop(signal?: NodeJS.Signals): Promise<void>;
};

export async function launchSimulated(options: LaunchOptions = {}): Promise<Launched> {
  const args = ["--exit-with-stdin", "--load-ms", String(options.load_ms ?? 0)];
  const flag = (name: string, value: string | number | undefined) => {
    if (value !== undefined) args.push(`--${name}`, String(value));
  };
  flag("port", options.port);
  flag("role", options.role);
  flag("model", options.model);
  flag("tp", options.tp);
  flag("pp", options.pp);
  flag("engine-id", options.engine_id);
  flag("speed", options.speed);
  flag("kv-tokens", options.kv_tokens);
  flag("context", options.context);
  flag("max-num-seqs", options.max_num_seqs);
  flag("kv-lease-ms", options.kv_lease_ms);
  if (options.sim_control === true) args.push("--sim-control");

  const child = spawn(process.execPath, [SIMULATED_MAIN, ...args], { stdio: ["pipe", "pipe", "inherit"] });
  const exited = once(child, "exit").then(([code]) => code as number | null);
  const line = once(createInterface(child.stdout), "line");
  const first = await Promise.race([line, exited.then((code) => Promise.reject(new Error(`simulated engine exited with ${code}`)))]);
  const ready = JSON.parse(String(first[0])) as { url: string; pid: number; engine_id: string };
  return {
    url: ready.url,
    pid: ready.pid,
    engine_id: ready.engine_id,
    ended: exited,
    async stop(signal) {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill(signal ?? "SIGTERM");
      await exited;
    },
  };
}
