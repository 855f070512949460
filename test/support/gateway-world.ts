/**
 * A world for tests of the doors: a real database, the gateway as a process of its own, its node agent and simulated
 * instances behind it. Everything that it starts ends with `close`, also what a test has killed half of.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { SignJWT } from "jose";
import type postgres from "postgres";
import { freshDatabase } from "./postgres.ts";
import { mintKey } from "../../schema/core/keys.ts";
import { TOKEN_AUDIENCE, TOKEN_ISSUER, type Scope } from "../../schema/core/wire/token.ts";
import { createKey } from "../../schema/db/queries/keys/create-key.ts";
import { DEFAULT_PROJECT, DEFAULT_TENANT } from "../../schema/db/seed.ts";

const MAIN = fileURLToPath(new URL("../../gpu-gateway/main.ts", import.meta.url));
export const MODEL = "llama-3-8b";

export type WorldOptions = {
  readonly speed?: number;
  readonly lease_ms?: number;
  readonly pools?: readonly { readonly role: "prefill" | "decode" | "both"; readonly groups: number }[];
  readonly engine_args?: readonly string[];
  readonly limits?: Readonly<Record<string, number>>;
  /** A file in the world's folder. */
  readonly record_decisions?: string;
};

export type World = {
  readonly url: () => string;
  readonly key: string;
  readonly sql: postgres.Sql;
  readonly state_dir: string;
  readonly gateway: () => ChildProcess;
  readonly log: () => string;
  makeKey(scopes: readonly Scope[]): Promise<{ key: string; text: string }>;
  token(claims?: { tenant?: string; scopes?: readonly Scope[]; key?: string }): Promise<string>;
  /** Starts the gateway again, on the same folder. */
  start(): Promise<void>;
  /** Ends the process and waits for it; the nodes stay unless it releases them. */
  stop(signal: NodeJS.Signals): Promise<number | null>;
  state(): Promise<AdminState>;
  /** What runs on the node, as its agent knows it. */
  engines(): Promise<readonly RunningEngine[]>;
  /** Arms faults of a simulated instance (engines/simulated/faults.ts). */
  arm(engine: RunningEngine, fault: Readonly<Record<string, unknown>>): Promise<void>;
  stats(engine: RunningEngine): Promise<Record<string, unknown>>;
  close(): Promise<void>;
};
export type RunningEngine = { group: string; instance: string; role: string; url: string; pid: number };
export type AdminState = {
  epoch: number;
  calls: number;
  legs: number;
  holding: number;
  groups: { group: string; role: string; phase: string }[];
  instances: { instance_id: string; role: string; state: string; legs: number }[];
};

export async function openWorld(options: WorldOptions = {}): Promise<World> {
  const db = await freshDatabase();
  const dir = mkdtempSync(path.join(os.tmpdir(), "millrace-gateway-"));
  const secret = randomBytes(32).toString("hex");
  const pools = options.pools ?? [
    { role: "prefill", groups: 2 },
    { role: "decode", groups: 2 },
  ];
  const config = {
    cell: "test",
    state_dir: "state",
    provider: {
      type: "local",
      node_id: "node-1",
      gpus: 4,
      engines: {
        simulated: {
          kind: "simulated",
          speed: options.speed ?? 50,
          args: ["--load-ms", "0", "--sim-control", ...(options.engine_args ?? [])],
        },
      },
    },
    pools: pools.map((pool) => ({ model: MODEL, gpus: 1, engine: "simulated", ...pool })),
    limits: { drain_ms: 500, ...options.limits },
    lease_ms: options.lease_ms ?? 5_000,
    ...(options.record_decisions === undefined ? {} : { record_decisions: options.record_decisions }),
  };
  const file = path.join(dir, "gateway.json");
  writeFileSync(file, JSON.stringify(config));

  let child: ChildProcess | null = null;
  let url = "";
  let log = "";

  const makeKey = async (scopes: readonly Scope[]) => {
    const minted = mintKey(randomBytes(40));
    const { key, secret_hash, text } = minted;
    await createKey(db.sql, { key, secret_hash, tenant: DEFAULT_TENANT, project: DEFAULT_PROJECT, name: "test", scopes, expires_at: null });
    return { key, text };
  };
  const { text: key } = await makeKey(["infer", "invoke", "deploy", "usage", "admin"]);

  async function start(): Promise<void> {
    child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", MAIN, "--config", file], {
      env: { ...process.env, DATABASE_URL: db.url, MILLRACE_CELL_SECRET: secret },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const { stdout, stderr } = child;
    if (stdout === null || stderr === null) throw new Error("no pipes");
    stderr.on("data", (chunk: Buffer) => (log += chunk.toString()));
    const exited = once(child, "exit").then(([code]) => Promise.reject(new Error(`the gateway exited with ${String(code)}:\n${log}`)));
    exited.catch(() => undefined);
    const [line] = (await Promise.race([once(createInterface(stdout), "line"), exited])) as [string];
    url = (JSON.parse(line) as { url: string }).url;
  }

  async function stop(signal: NodeJS.Signals): Promise<number | null> {
    if (child === null) return null;
    const ending = child;
    child = null;
    if (ending.exitCode !== null || ending.signalCode !== null) return ending.exitCode;
    const exited = once(ending, "exit");
    ending.kill(signal);
    const [code] = (await exited) as [number | null];
    return code;
  }

  const state_dir = path.join(dir, "state");
  async function engines(): Promise<RunningEngine[]> {
    const agent = path.join(state_dir, "nodes", "node-1");
    const { url: agent_url, token } = readJson(path.join(agent, "agent.json")) as { url: string; token: string };
    const answer = await fetch(`${agent_url}/v1/node`, { headers: { authorization: `Bearer ${token}` } });
    const node = (await answer.json()) as {
      groups: { group_id: string; role: string; instances: { instance_id: string; url: string }[] }[];
    };
    const { engines: started } = readJson(path.join(agent, "engines.json")) as {
      engines: { group_id: string; process: { pid: number } | null }[];
    };
    return node.groups.flatMap(({ group_id: group, role, instances: [instance] }) => {
      const pid = started.find((engine) => engine.group_id === group)?.process?.pid;
      return instance === undefined || pid === undefined ? [] : [{ group, instance: instance.instance_id, role, url: instance.url, pid }];
    });
  }

  const world: World = {
    engines,
    async arm(engine, fault) {
      const answer = await fetch(`${engine.url}/sim/faults`, { method: "POST", body: JSON.stringify(fault) });
      if (!answer.ok) throw new Error(`fault not armed: ${answer.status} ${await answer.text()}`);
    },
    stats: async (engine) => (await (await fetch(`${engine.url}/sim/stats`)).json()) as Record<string, unknown>,
    url: () => url,
    key,
    sql: db.sql,
    state_dir,
    log: () => log,
    gateway: () => {
      if (child === null) throw new Error("the gateway is not running");
      return child;
    },
    makeKey,
    token: ({ tenant = DEFAULT_TENANT, scopes = ["infer", "usage"], key: key_id = "key_edge" } = {}) =>
      new SignJWT({ tenant, project: DEFAULT_PROJECT, key: key_id, scopes: [...scopes] })
        .setProtectedHeader({ alg: "HS256" })
        .setIssuer(TOKEN_ISSUER)
        .setAudience(TOKEN_AUDIENCE)
        .setExpirationTime("60s")
        .sign(new TextEncoder().encode(secret)),
    start,
    stop,
    state: async () => (await (await fetch(`${url}/admin/state`, { headers: { authorization: `Bearer ${key}` } })).json()) as AdminState,
    async close() {
      await stop("SIGTERM");
      endAgents(state_dir);
      await db.drop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
  await start();
  return world;
}

const readJson = (file: string): unknown => JSON.parse(readFileSync(file, "utf8"));

/** Agents whose gateway could not release them. */
function endAgents(state_dir: string): void {
  for (const name of readdirSync(state_dir, { recursive: true, encoding: "utf8" })) {
    if (path.basename(name) !== "agent.json") continue;
    try {
      process.kill((JSON.parse(readFileSync(path.join(state_dir, name), "utf8")) as { pid: number }).pid, "SIGTERM");
    } catch {
      // It has ended.
    }
  }
}
