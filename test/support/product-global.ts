/**
 * vitest globalSetup of the system project: the whole product, as `npm start` runs it, on free ports and in a state folder of its
 * own; every system test meets this one. Engines run SPEED times faster than an A100.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { deploySwarm } from "../../cli/dev/example.ts";
import { start } from "../../cli/dev/start.ts";

export type Product = {
  readonly edge_url: string;
  readonly gateway_url: string;
  readonly key: string;
  readonly state: string;
  readonly database_url: string;
};

declare module "vitest" {
  export interface ProvidedContext {
    product: Product;
  }
}

const SPEED = 20;
const root = join(import.meta.dirname, "..", "..");

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const state = mkdtempSync(join(tmpdir(), "millrace-system-"));
  const running = await start({ root, state, edge_port: 0, gateway_port: 0, speed: SPEED, restart: true, say: () => {} });
  await deploySwarm(root, { url: running.edge_url, key: running.key });
  running.mark_ready();
  project.provide("product", {
    edge_url: running.edge_url,
    gateway_url: running.gateway_url,
    key: running.key,
    state,
    database_url: running.database_url,
  });
  return async () => {
    await running.stop();
    // As root the database lies elsewhere (cli/dev/postgres-place.ts) and says where.
    const note = join(state, "postgres", "postgres-home.txt");
    if (existsSync(note)) rmSync(readFileSync(note, "utf8").trim(), { recursive: true, force: true });
    rmSync(state, { recursive: true, force: true });
  };
}
