/**
 * Which process is meant. A pid alone may by now belong to someone else, so a process is named by its pid and the instant at
 * which it started; nothing here signals a process that does not match both.
 */
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { z } from "zod";

export const processIdentity = z.object({ pid: z.int().positive(), start: z.string() });
export type ProcessIdentity = z.infer<typeof processIdentity>;

/** Null when there is no such process, or only what is left of it (a zombie). */
export function identify(pid: number): ProcessIdentity | null {
  const start = process.platform === "linux" ? linuxStart(pid) : psStart(pid);
  return start === null ? null : { pid, start };
}

export function isRunning(identity: ProcessIdentity): boolean {
  return identify(identity.pid)?.start === identity.start;
}

/** Signals the process group that this process leads. False: it is gone, or the pid is another's by now. */
export function signalGroup(leader: ProcessIdentity, signal: NodeJS.Signals): boolean {
  return isRunning(leader) && sendToGroup(leader.pid, signal);
}

/** For a leader that we know to have just ended: what is left of its group. Its pid is not given out again while any of it is left. */
export function sendToGroup(pgid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(-pgid, signal);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/**
 * Processes that carry `marker` in their environment: an engine's own children inherit it, also those whose parent has ended.
 * Only where /proc is; elsewhere nothing is found.
 */
export function findMarked(marker: string): ProcessIdentity[] {
  if (process.platform !== "linux") return [];
  const found: ProcessIdentity[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const pid = Number(name);
    const environment = read(`/proc/${pid}/environ`);
    if (environment === null || !environment.split("\0").includes(marker)) continue;
    const identity = identify(pid);
    if (identity !== null) found.push(identity);
  }
  return found;
}

/** Boot id and clock ticks since boot: the same ticks after a reboot are another process. */
function linuxStart(pid: number): string | null {
  const stat = read(`/proc/${pid}/stat`);
  if (stat === null) return null;
  // The second field is the program's name in brackets and may hold anything, so fields are counted after the last bracket.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [state, started] = [fields[0], fields[19]];
  if (started === undefined || state === "Z" || state === "X") return null;
  return `${read("/proc/sys/kernel/random/boot_id")?.trim() ?? "?"}:${started}`;
}

function psStart(pid: number): string | null {
  try {
    const [state, ...started] = execFileSync("ps", ["-o", "state=,lstart=", "-p", String(pid)], { encoding: "utf8" })
      .trim()
      .split(/\s+/);
    return state === undefined || state === "" || state.startsWith("Z") ? null : started.join(" ");
  } catch {
    return null;
  }
}

function read(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}
