/**
 * vitest globalSetup of project `edge`: one link peer, for code that runs inside workerd. A process of its own, because the
 * setup files of a workerd project are resolved with workerd's conditions, under which `ws` is an empty module.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { TestProject } from "vitest/node";

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const main = fileURLToPath(new URL("link-peer-main.ts", import.meta.url));
  const peer = spawn(process.execPath, [main], { stdio: ["pipe", "pipe", "inherit"] });
  const [line] = await Promise.race([once(createInterface(peer.stdout), "line"), once(peer, "exit").then(() => [""])]);
  if (line === "") throw new Error("the link peer did not start");
  project.provide("link_peer", JSON.parse(String(line)));
  return async () => {
    const exited = once(peer, "exit");
    peer.stdin.end();
    await exited;
  };
}
