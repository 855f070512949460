/**
 * vitest globalSetup: one Postgres for the whole run, however many projects ask for it, with a migrated template database that
 * tests clone (postgres.ts). A data folder of its own per run, so that several runs on one machine never meet; a folder whose
 * run was killed is cleared away by the next run. MILLRACE_TEST_DATABASE_URL uses a server that is there already.
 */
import { randomBytes } from "node:crypto";
import { readdir, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import postgres from "postgres";
import type { TestProject } from "vitest/node";
import { homeFor, runAs } from "../../cli/dev/postgres-place.ts";
import { findPostmaster, isAlive, stopPostmaster } from "../../cli/dev/postgres-postmaster.ts";
import { startPostgres } from "../../cli/dev/postgres.ts";
import { migrate } from "../../schema/db/migrate.ts";
import { seedDefaults } from "../../schema/db/seed.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** Owner's URL of the template. Nobody connects to it: a template in use cannot be cloned. */
    postgres_template_url: string;
  }
}

const PREFIX = "millrace-test-postgres-";
type Server = { readonly url: string; stop(): Promise<void> };
type Shared = { server: Promise<Server>; users: number };
/** On the process, since each project has a module instance of this file. */
const KEY = Symbol.for("millrace.test.postgres");
const holder = globalThis as { [KEY]?: Shared };

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const shared = (holder[KEY] ??= { server: openServer(), users: 0 });
  shared.users += 1;
  const server = await shared.server;
  project.provide("postgres_template_url", server.url);
  return async () => {
    shared.users -= 1;
    if (shared.users > 0 || holder[KEY] !== shared) return;
    delete holder[KEY];
    await server.stop();
  };
}

async function openServer(): Promise<Server> {
  const given = process.env["MILLRACE_TEST_DATABASE_URL"];
  const template = `millrace_template_${randomBytes(6).toString("hex")}`;
  if (given !== undefined && given !== "") {
    const url = await prepareTemplate(given, template);
    return { url, stop: () => administer(given, `drop database ${template} with (force)`) };
  }
  await clearAbandoned();
  const dir = path.join(os.tmpdir(), `${PREFIX}${process.pid}-${randomBytes(4).toString("hex")}`);
  const running = await startPostgres({ dir, durable: false, connections_max: 400 });
  const url = await prepareTemplate(running.url, template);
  const stop = async () => {
    await running.stop();
    if (running.home !== null) await rm(running.home, { recursive: true, force: true });
    await rm(dir, { recursive: true, force: true });
  };
  return { url, stop };
}

async function prepareTemplate(server_url: string, template: string): Promise<string> {
  await administer(server_url, `create database ${template}`);
  const url = new URL(server_url);
  url.pathname = `/${template}`;
  await migrate(url.href);
  await seedDefaults(url.href);
  return url.href;
}

async function administer(url: string, statement: string): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    await sql.unsafe(statement);
  } finally {
    await sql.end();
  }
}

/** A run that was killed could not clear up: its folder names the process it belonged to. */
async function clearAbandoned(): Promise<void> {
  for (const name of await readdir(os.tmpdir())) {
    const pid = Number(new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1]);
    if (!Number.isInteger(pid) || isAlive(pid)) continue;
    const dir = path.join(os.tmpdir(), name);
    const home = await homeFor(dir, await runAs());
    const found = await findPostmaster(path.join(home, "data"));
    if (found.type === "running") await stopPostmaster(found.server.pid);
    await rm(home, { recursive: true, force: true });
    await rm(dir, { recursive: true, force: true });
  }
}
