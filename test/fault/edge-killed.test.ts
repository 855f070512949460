/** SIGKILL of each part of the local edge: it serves again, and a run that was under way ends. */
import { readFileSync, readdirSync } from "node:fs";
import { expect, it } from "vitest";
import { invoke } from "../../cli/commands/invoke.ts";
import { connection, deployText, product, running } from "../support/product.ts";
import { until } from "../support/until.ts";

/** The pids of the edge's workerd processes: the one that holds the public port, or those that run the Worker. */
function workerds(which: "proxy" | "worker"): number[] {
  const entry = `--socket-addr=entry=127.0.0.1:${new URL(product().edge_url).port}`;
  const group = running().edge.process.pid;
  return readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const command = readFileSync(`/proc/${name}/cmdline`, "utf8").split("\0");
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      const pgrp = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[2]);
      if (pgrp !== group || !command[0]?.endsWith("/workerd")) return [];
      return command.includes(entry) === (which === "proxy") ? [Number(name)] : [];
    } catch {
      return []; // ended meanwhile
    }
  });
}

const served = async (): Promise<boolean> => {
  const run = await invoke(connection(), "still-there", {}, { signal: AbortSignal.timeout(10_000) }).catch(() => null);
  return run?.status === "done";
};

it.skipIf(process.platform !== "linux").each(["worker", "proxy"] as const)(
  "serves again after SIGKILL of the edge's %s process",
  async (which) => {
    await deployText("still-there", `import { agent } from "millrace"; export default agent(async () => "yes");`);
    expect(await served()).toBe(true);
    const victims = workerds(which);
    expect(victims.length).toBeGreaterThan(0);
    for (const pid of victims) process.kill(pid, "SIGKILL");
    await until("a run that is done", served, 90_000);
  },
);
