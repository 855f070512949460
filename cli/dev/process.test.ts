import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { until } from "../../test/support/until.ts";
import { groupAlive } from "./process.ts";

test.runIf(process.platform === "linux")("a group of which only zombies are left is not alive", async () => {
  // The inner process leads a group of its own and ends; its parent has become `sleep`, which reaps nothing.
  const parent = spawn("sh", ["-c", "setsid true & echo $!; exec sleep 1000"], { stdio: ["ignore", "pipe", "ignore"] });
  try {
    const [line] = (await once(parent.stdout, "data")) as [Buffer];
    const zombie = Number(line.toString());
    await until("a zombie", () => / Z \d+ /.test(readFileSync(`/proc/${zombie}/stat`, "utf8")));
    expect(process.kill(-zombie, 0)).toBe(true); // the operating system still knows the group
    expect(groupAlive(zombie)).toBe(false);
  } finally {
    parent.kill("SIGKILL");
  }
});

test("a group is alive while a process of it is, and not when there is none", async () => {
  const leader = spawn("sleep", ["1000"], { detached: true, stdio: "ignore" });
  const pid = leader.pid ?? 0;
  expect(groupAlive(pid)).toBe(true);
  leader.kill("SIGKILL");
  await once(leader, "exit");
  expect(groupAlive(pid)).toBe(false);
});
