/** The gateway of the local product: one cell, one simulated node of four A100, two prefill and two decode instances. */
import { writeFileSync } from "node:fs";
import { z } from "zod";
import { Child } from "./child.ts";
import type { ProcessName } from "./process.ts";
import type { StateFolder } from "./state.ts";

export type GatewayOptions = {
  readonly root: string;
  readonly state: StateFolder;
  readonly port: number;
  readonly database_url: string;
  readonly cell_secret: string;
  readonly speed: number;
  readonly restart: boolean;
  readonly on_spawn: (process: ProcessName, url: string) => void;
  readonly on_death: (message: string) => void;
};

const LOAD_MS = 1_000;
const readyLine = z.object({ ready: z.literal(true), url: z.string() });

/** Where the gateway says that it serves; null for every other line. */
function servesAt(line: string): string | null {
  if (!line.startsWith("{")) return null;
  try {
    return readyLine.safeParse(JSON.parse(line)).data?.url ?? null;
  } catch {
    return null;
  }
}

export function writeGatewayConfig(options: GatewayOptions): string {
  const path = options.state.file("gateway.json");
  const config = localGatewayConfig({ state_dir: options.state.file("gateway"), port: options.port, speed: options.speed });
  writeFileSync(path, `${JSON.stringify(config, null, 2)}\n`);
  return path;
}

/** The configuration that `npm start` runs; docs/operating.md explains each field. */
export function localGatewayConfig(options: { state_dir: string; port: number; speed: number }) {
  return {
    cell: "local",
    state_dir: options.state_dir,
    listen: { host: "127.0.0.1", port: options.port },
    provider: {
      type: "local",
      node_id: "node-a100-1",
      gpus: 4,
      // A real 8B model takes some 20 s to load; nobody should wait for a simulated one.
      engines: { simulated: { kind: "simulated", speed: options.speed, args: ["--load-ms", String(LOAD_MS)] } },
    },
    pools: [
      { model: "llama-3-8b", role: "prefill", groups: 2, gpus: 1, engine: "simulated" },
      { model: "llama-3-8b", role: "decode", groups: 2, gpus: 1, engine: "simulated" },
    ],
  };
}

export function gatewayChild(options: GatewayOptions): Child {
  const config = writeGatewayConfig(options);
  return new Child({
    name: "gateway",
    command: [process.execPath, "--disable-warning=ExperimentalWarning", "gpu-gateway/main.ts", "--config", config],
    cwd: options.root,
    env: { ...process.env, DATABASE_URL: options.database_url, MILLRACE_CELL_SECRET: options.cell_secret },
    log_file: options.state.file("logs", "gateway.log"),
    restart: options.restart,
    ready: async (io) => {
      const at = servesAt(await io.line((line) => servesAt(line) !== null));
      // Another wrote gateway.json meanwhile: what came up is not what was asked for, and nobody would find it.
      if (at === null || Number(new URL(at).port) !== options.port)
        throw new Error(`the gateway serves at ${at ?? "no address"}, not on port ${options.port} as ${config} said`);
    },
    on_spawn: (process) => options.on_spawn(process, `http://127.0.0.1:${options.port}`),
    on_death: options.on_death,
  });
}
