/** What system tests ask of the running product (test/support/product-global.ts). */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { inject } from "vitest";
import { deploy, type DeployOptions } from "../../cli/commands/deploy.ts";
import { usage } from "../../cli/commands/usage.ts";
import type { Connection } from "../../cli/connection.ts";
import { StateFolder } from "../../cli/dev/state.ts";
import type { UsageGroup, UsageReport } from "../../schema/core/wire/http.ts";

export const product = () => inject("product");
export const connection = (): Connection => ({ url: product().edge_url, key: product().key });

/** Deploys a function from its text, as `millrace deploy` does from a file. */
export async function deployText(name: string, text: string, options: DeployOptions = {}, as: Connection = connection()) {
  const folder = mkdtempSync(join(tmpdir(), "millrace-function-"));
  try {
    const file = join(folder, `${name}.ts`);
    writeFileSync(file, text);
    return await deploy(as, file, { name, ...options });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export const settledUsage = (...group_by: UsageGroup[]): Promise<UsageReport> => usage(connection(), { group_by, settle: true });

export async function withDatabase<T>(work: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = postgres(product().database_url, { max: 1, onnotice: () => {} });
  try {
    return await work(sql);
  } finally {
    await sql.end();
  }
}

/** The pids of the product's parts, now. */
export const running = () => {
  const run = new StateFolder(product().state).readRun();
  if (!run?.gateway || !run.edge) throw new Error("the product is not up");
  return { gateway: run.gateway, edge: run.edge };
};
