/**
 * Ends node agents that outlived their gateway. A gateway that is told to stop releases its agents itself; one that was killed
 * cannot, and their lease would end them only later than a Ctrl-C promises.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { processStarted } from "./process.ts";

const agentFile = z.object({ pid: z.int() });
const STOP_MS_MAX = 10_000;
const POLL_MS = 25;

function agentFiles(folder: string, depth = 3): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
      if (entry.isFile() && entry.name === "agent.json") return [join(folder, entry.name)];
      return entry.isDirectory() && depth > 0 ? agentFiles(join(folder, entry.name), depth - 1) : [];
    });
  } catch {
    return [];
  }
}

export async function stopAgents(gateway_state: string): Promise<void> {
  for (const path of agentFiles(gateway_state)) {
    const pid = agentOf(path);
    if (pid === null) continue;
    const started = processStarted(pid);
    if (started === null || !commandOf(pid).includes("node-agent")) continue;
    signal(pid, "SIGTERM");
    const give_up_ms = Date.now() + STOP_MS_MAX;
    while (processStarted(pid) === started && Date.now() < give_up_ms) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    if (processStarted(pid) === started) signal(pid, "SIGKILL");
  }
}

function agentOf(path: string): number | null {
  try {
    return agentFile.parse(JSON.parse(readFileSync(path, "utf8"))).pid;
  } catch {
    return null; // removed meanwhile, or no agent's: there is nobody to stop
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It ended meanwhile.
  }
}

/** A pid in an old file may by now be anybody's. */
function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return process.platform === "linux" ? "" : "node-agent";
  }
}
