/** What a bench of the gateway needs: a Postgres, a gateway in front of one fixed engine, the engine itself, a load process. */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { startPostgres } from "../../cli/dev/postgres.ts";
import { prepareDatabase } from "../../cli/dev/seed.ts";
import { StateFolder } from "../../cli/dev/state.ts";
import type { LoadOptions, LoadResult } from "./load.ts";

export const root = join(import.meta.dirname, "..", "..");

export type GatewayWorld = { readonly gateway_url: string; readonly key: string; readonly gateway_pid: number; stop(): Promise<void> };

function lines(child: ChildProcess): AsyncIterator<string> {
  if (!child.stdout) throw new Error("the child has no stdout");
  return createInterface({ input: child.stdout })[Symbol.asyncIterator]();
}

async function readyUrl(child: ChildProcess, name: string): Promise<string> {
  const reader = lines(child);
  for (;;) {
    const { value, done } = await reader.next();
    if (done) throw new Error(`${name} ended before it was ready`);
    if (!value.startsWith("{")) continue;
    const parsed = JSON.parse(value) as { ready?: boolean; url?: string };
    if (parsed.ready && parsed.url) return parsed.url;
  }
}

export async function startFixedEngine(args: readonly string[]): Promise<{ readonly url: string; stop(): Promise<void> }> {
  const child = spawn(process.execPath, [join(root, "bench/lib/fixed-engine.ts"), ...args], { stdio: ["ignore", "pipe", "inherit"] });
  return { url: await readyUrl(child, "the fixed engine"), stop: () => ended(child, "SIGTERM") };
}

/** What of a gateway's configuration is the bench's own. */
export type GatewayParts = {
  readonly gpus: number;
  readonly engines: object;
  readonly pools: readonly object[];
  /** Further fields. */
  readonly more?: object;
  /** The call that says that an instance is up: the gateway learns from it how long prompts are. */
  readonly first_call?: { readonly path: string; readonly body: object };
};
const CHAT = {
  path: "/v1/chat/completions",
  body: { model: "llama-3-8b", messages: [{ role: "user", content: "hello" }], max_tokens: 16 },
};

/** The gateway, whole (journal, metering, scheduling, Postgres), with one instance of the fixed engine behind it. */
export function startGateway(engine_args: readonly string[]): Promise<GatewayWorld> {
  const command = [process.execPath, join(root, "bench/lib/fixed-engine.ts"), "--port", "{port}", ...engine_args];
  return startGatewayOf({
    gpus: 1,
    engines: { fixed: { kind: "vllm", command } },
    pools: [{ model: "llama-3-8b", role: "both", groups: 1, gpus: 1, engine: "fixed" }],
  });
}

export async function startGatewayOf({ gpus, engines, pools, more, first_call }: GatewayParts): Promise<GatewayWorld> {
  const folder = mkdtempSync(join(tmpdir(), "millrace-bench-"));
  const state = new StateFolder(folder);
  const postgres = await startPostgres({ dir: state.file("postgres") });
  const key = await prepareDatabase({ database_url: postgres.url, state });
  const config = state.file("gateway.json");
  const provider = { type: "local", node_id: "bench-node", gpus, engines };
  writeFileSync(config, JSON.stringify({ cell: "bench", state_dir: state.file("gateway"), provider, pools, ...more }));
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", join(root, "gpu-gateway/main.ts"), "--config", config], {
    cwd: root,
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, DATABASE_URL: postgres.url, MILLRACE_CELL_SECRET: state.secret("cell-secret") },
  });
  let stopped = false;
  const stop = async (): Promise<void> => {
    if (stopped) return;
    stopped = true;
    await ended(child, "SIGTERM");
    await postgres.stop();
    rmSync(folder, { recursive: true, force: true });
    if (postgres.home) rmSync(postgres.home, { recursive: true, force: true });
  };
  try {
    const gateway_url = await readyUrl(child, "the gateway");
    await untilServing(gateway_url, key, first_call ?? CHAT);
    return { gateway_url, key, gateway_pid: child.pid ?? 0, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The gateway listens before its instance is up: the first answered call says that both are. */
async function untilServing(gateway_url: string, key: string, { path, body }: Required<GatewayParts>["first_call"]): Promise<void> {
  const give_up_ms = Date.now() + 30_000;
  for (;;) {
    const answer = await fetch(`${gateway_url}${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    const text = await answer.text();
    if (answer.ok) return;
    if (Date.now() > give_up_ms) throw new Error(`the gateway does not serve: ${answer.status} ${text}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

export type LoadProcess = { run(options: LoadOptions): Promise<LoadResult>; stop(): Promise<void> };

export function startLoad(): LoadProcess {
  const child = spawn(process.execPath, [join(root, "bench/lib/load-main.ts")], { stdio: ["pipe", "pipe", "inherit"] });
  const reader = lines(child);
  return {
    run: async (options) => {
      child.stdin?.write(`${JSON.stringify(options)}\n`);
      const { value, done } = await reader.next();
      if (done) throw new Error("the load process ended");
      return JSON.parse(value) as LoadResult;
    },
    stop: () => ended(child, "SIGTERM"),
  };
}

function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    child.once("exit", () => resolve());
    child.kill(signal);
  });
}
