/** What the operating system knows of a process. A pid alone may have been given to another: pid and start time name one. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

export type ProcessName = { readonly pid: number; readonly started: string };

/** An opaque text that differs for two processes that had the same pid; null when there is no such process (or it is a zombie). */
export function processStarted(pid: number): string | null {
  if (process.platform === "linux") {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      // The command name is in parentheses and may hold anything; fields are counted after the last one.
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return fields[0] === "Z" ? null : (fields[19] ?? null);
    } catch {
      return null;
    }
  }
  try {
    return execFileSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "utf8" }).trim() || null;
  } catch {
    return null;
  }
}

export function isAlive(name: ProcessName): boolean {
  return processStarted(name.pid) === name.started;
}

/** Signals the process group that `pid` leads; says whether there was one. */
export function signalGroup(pid: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(-pid, signal);
    return true;
  } catch {
    return false;
  }
}

/**
 * True while anything is left of the group that this process led: itself, or what it started. A group's id is not given to another
 * while the group lives, so a leader that is gone needs no start time.
 */
export function groupIsLeft(leader: ProcessName): boolean {
  const started = processStarted(leader.pid);
  return started === null ? groupAlive(leader.pid) : started === leader.started;
}

/** True while any process of the group is left. */
export function groupAlive(pid: number): boolean {
  try {
    process.kill(-pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  if (process.platform !== "linux") return true;
  // Zombies are not alive: where process 1 reaps nothing (many containers), orphans that ended stay for ever.
  return readdirSync("/proc").some((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      const [state, , group] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return Number(group) === pid && state !== "Z" && state !== "X";
    } catch {
      return false; // ended meanwhile
    }
  });
}
