/** The edge of the local product: the worker of wrangler.toml in workerd, under `wrangler dev`. */
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { Child, type ChildIo } from "./child.ts";
import type { ProcessName } from "./process.ts";
import type { StateFolder } from "./state.ts";

export type EdgeOptions = {
  readonly root: string;
  readonly state: StateFolder;
  readonly port: number;
  readonly database_url: string;
  readonly gateway_url: string;
  readonly cell_secret: string;
  readonly restart: boolean;
  readonly on_spawn: (process: ProcessName, url: string) => void;
  readonly on_death: (message: string) => void;
};

const HEALTH_POLL_MS = 150;
const HEALTH_ANSWER_MS = 4_000;
const READY_MS_MAX = 60_000;

export function edgeChild(options: EdgeOptions): Child {
  const url = `http://127.0.0.1:${options.port}`;
  const env_file = options.state.file("edge.env");
  writeFileSync(env_file, `GATEWAY_URL=${options.gateway_url}\nMILLRACE_CELL_SECRET=${options.cell_secret}\nMILLRACE_ENV=development\n`, {
    mode: 0o600,
  });
  chmodSync(env_file, 0o600);
  const config = writeWorkerConfig(options);
  const wrangler = join(dirname(createRequire(import.meta.url).resolve("wrangler/package.json")), "wrangler-dist", "cli.js");
  return new Child({
    name: "edge",
    command: [
      process.execPath,
      "--no-warnings",
      wrangler,
      "dev",
      "--config",
      config,
      "--ip",
      "127.0.0.1",
      "--port",
      String(options.port),
      "--inspector-port",
      "0",
      "--persist-to",
      options.state.file("edge"),
      "--env-file",
      env_file,
      "--show-interactive-dev-session=false",
      "--log-level",
      "warn",
    ],
    cwd: options.root,
    env: {
      ...process.env,
      // wrangler writes its settings and logs below the home folder, which a container's user may not have.
      XDG_CONFIG_HOME: options.state.file("wrangler"),
      WRANGLER_SEND_METRICS: "false",
      CI: "true", // no prompts
      CLOUDFLARE_HYPERDRIVE_LOCAL_CONNECTION_STRING_DB: options.database_url,
      CLOUDFLARE_HYPERDRIVE_LOCAL_CONNECTION_STRING_DB_CACHED: options.database_url,
    },
    log_file: options.state.file("logs", "edge.log"),
    restart: options.restart,
    ready: (io) => untilHealthy(`${url}/health`, io),
    alive: () =>
      fetch(`${url}/health`, { signal: AbortSignal.timeout(HEALTH_ANSWER_MS) }).then(
        (answer) => answer.ok,
        () => false,
      ),
    on_spawn: (process) => options.on_spawn(process, url),
    on_death: options.on_death,
  });
}

/**
 * A copy of wrangler.toml in the state folder that names its worker in full: wrangler puts `.wrangler/` beside the configuration that it is
 * given, and the checkout may be somebody else's. What a killed one left there is removed: the folder is ours alone.
 */
function writeWorkerConfig({ root, state }: EdgeOptions): string {
  const text = readFileSync(join(root, "wrangler.toml"), "utf8");
  const folder = state.file("wrangler");
  rmSync(join(folder, ".wrangler"), { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const config = join(folder, "wrangler.toml");
  writeFileSync(
    config,
    text.replace(/^main = "(.*)"$/m, (_, main: string) => `main = ${JSON.stringify(join(root, main))}`),
  );
  return config;
}

async function untilHealthy(url: string, io: ChildIo): Promise<void> {
  const give_up_ms = Date.now() + READY_MS_MAX;
  for (;;) {
    const answer = await Promise.race([fetch(url, { signal: AbortSignal.timeout(5_000) }).catch(() => null), io.ended]);
    if (answer?.ok) return;
    if (Date.now() > give_up_ms) throw new Error(`the edge did not answer at ${url} within ${READY_MS_MAX / 1_000} s`);
    await Promise.race([new Promise((resolve) => setTimeout(resolve, HEALTH_POLL_MS)), io.ended]);
  }
}
