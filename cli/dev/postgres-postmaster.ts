/**
 * A server as its data folder knows it: `postmaster.pid` (its lines are what pg_ctl reads: pid, data folder, start time, port,
 * socket folder, address, shared memory, status). The file outlives a killed server, and a pid is used again by others: so
 * a server lives only if that pid runs with this data folder on its command line.
 */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import { PostgresUnavailable } from "./postgres-unavailable.ts";

export const PID_FILE = "postmaster.pid";
const POLL_MS = 20;
const WATCH_MS = 250;
/** A fast shutdown writes a checkpoint; after this long the server is told to abort, and recovers at its next start. */
const FAST_STOP_MS = 20_000;
const ABORT_MS = 5_000;

export type Postmaster = { readonly pid: number; readonly port: number; readonly ready: boolean };

/** `absent`: no file. `stale`: a file, but its server is gone. */
export type Found = { readonly type: "absent" } | { readonly type: "stale" } | { readonly type: "running"; readonly server: Postmaster };

export async function findPostmaster(data_dir: string): Promise<Found> {
  const text = await readFile(path.join(data_dir, PID_FILE), "utf8").catch(() => null);
  if (text === null) return { type: "absent" };
  const lines = text.split("\n");
  const pid = Number(lines[0]);
  if (!Number.isInteger(pid) || pid <= 1 || !(await commandLine(pid)).includes(data_dir)) return { type: "stale" };
  return { type: "running", server: { pid, port: Number(lines[3]), ready: (lines[7] ?? "").trim() === "ready" } };
}

async function commandLine(pid: number): Promise<string> {
  if (process.platform === "linux") return (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).replaceAll("\0", " ");
  return promisify(execFile)("ps", ["-ww", "-p", String(pid), "-o", "command="]).then(
    (done) => done.stdout,
    () => "",
  );
}

/** A zombie is not alive: where process 1 reaps nothing (many containers), an orphan that ended stays one for ever. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  if (process.platform !== "linux") return true;
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(")") + 2));
  } catch {
    return false;
  }
}

/** Resolves when the process is gone. Does not keep this one alive. */
export async function goneAway(pid: number): Promise<void> {
  while (isAlive(pid)) await pause(WATCH_MS, undefined, { ref: false });
}

/** Waits until `done` says so; false at the limit. */
export async function until(done: () => boolean | Promise<boolean>, limit_ms: number): Promise<boolean> {
  const end = performance.now() + limit_ms;
  while (!(await done())) {
    if (performance.now() > end) return false;
    await pause(POLL_MS);
  }
  return true;
}

/** Fast shutdown (SIGINT: open transactions roll back, then a checkpoint), else abort, else kill. */
export async function stopPostmaster(pid: number): Promise<void> {
  for (const [signal, limit_ms] of [
    ["SIGINT", FAST_STOP_MS],
    ["SIGQUIT", ABORT_MS],
    ["SIGKILL", ABORT_MS],
  ] as const) {
    try {
      process.kill(pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ESRCH") return;
      throw new PostgresUnavailable(`Postgres (pid ${pid}) cannot be stopped: it belongs to another user.`, { cause: error });
    }
    if (await until(() => !isAlive(pid), limit_ms)) return;
  }
  throw new PostgresUnavailable(`Postgres (pid ${pid}) cannot be stopped; end it by hand.`);
}
