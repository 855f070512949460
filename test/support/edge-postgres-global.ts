/**
 * vitest globalSetup of project `edge`: a migrated Postgres with two tenants, for code that runs inside workerd. A process of
 * its own, because the setup files of a workerd project are resolved with workerd's conditions.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { TestProject } from "vitest/node";
import type { EdgePostgres } from "./edge-postgres-main.ts";

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const main = fileURLToPath(new URL("edge-postgres-main.ts", import.meta.url));
  const server = spawn(process.execPath, ["--no-warnings", main], { stdio: ["pipe", "pipe", "inherit"] });
  const [line] = await Promise.race([once(createInterface(server.stdout), "line"), once(server, "exit").then(() => [""])]);
  if (line === "") throw new Error("the tests' Postgres did not start");
  project.provide("edge_postgres", JSON.parse(String(line)) as EdgePostgres);
  return async () => {
    const exited = once(server, "exit");
    server.stdin.end();
    await exited;
  };
}
