/** Finds the node's agent, or starts one that outlives this process. */
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { NodeId } from "../../../schema/core/ids.ts";
import type { EngineCatalogue } from "../../node-agent/catalogue.ts";
import { writeAtomically } from "../../node-agent/durable.ts";
import { passedEnvironment } from "../../node-agent/engine.ts";
import { isRunning } from "../../node-agent/processes.ts";
import type { AgentFile } from "../../node-agent/wire.ts";
import { AGENT_FILE_NAME, agentFile, snapshot } from "../../node-agent/wire.ts";
import { AgentClient } from "./agent-client.ts";

const START_BOUND_MS = 20_000;
const LOOK_MS = 20;
const ANSWER_BOUND_MS = 5_000;
const AGENT_LOG_BYTES_MAX = 1_048_576; // begun anew at the next start beyond it
const FOLDER_TAKEN = 3;

export type AgentPlace = {
  readonly state_dir: string;
  readonly node_id: NodeId;
  readonly gpus: number;
  readonly engines: EngineCatalogue;
  readonly agent_command: readonly string[];
};

export const DEFAULT_AGENT_COMMAND: readonly string[] = [
  process.execPath,
  fileURLToPath(new URL("../../node-agent/main.ts", import.meta.url)),
];

/** What `agent.json` names, if that very process still runs. */
export function findAgent(state_dir: string): AgentFile | null {
  try {
    const file = agentFile.parse(JSON.parse(readFileSync(join(state_dir, AGENT_FILE_NAME), "utf8")));
    return isRunning(file) ? file : null;
  } catch {
    return null;
  }
}

/** An agent that answers: the one that runs, else a new one. `lease_ms`: how long a new one waits to be claimed. */
export async function reachAgent(place: AgentPlace, lease_ms: number): Promise<AgentClient> {
  mkdirSync(place.state_dir, { recursive: true, mode: 0o700 });
  const catalogue_path = join(place.state_dir, "catalogue.json");
  writeAtomically(catalogue_path, JSON.stringify(place.engines));
  const give_up = performance.now() + START_BOUND_MS;
  let started: Started | null = null;
  for (;;) {
    const file = findAgent(place.state_dir);
    if (file !== null) {
      const client = new AgentClient(file);
      const answer = await client.ask({ path: "/v1/node", answer: snapshot, bound_ms: ANSWER_BOUND_MS });
      if (answer.type === "ok") {
        // Another gateway's was first. Ours, still on its way, must not find the folder free later and wait there for nobody.
        if (started !== null && started.pid !== file.pid) started.end();
        return checked(client, answer.value.node_id, answer.value.gpus, place);
      }
    } else if (started === null || started.exit_code === 0 || started.exit_code === FOLDER_TAKEN) {
      // None, or one that is on its way out and keeps the folder until it is gone.
      started = startAgent(place, catalogue_path, lease_ms);
    } else if (started.exit_code !== null) {
      throw new Error(`the node agent exited with code ${started.exit_code}; see ${join(place.state_dir, "agent.log")}`);
    }
    if (performance.now() > give_up)
      throw new Error(`no node agent answers within ${START_BOUND_MS} ms; see ${join(place.state_dir, "agent.log")}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

function checked(client: AgentClient, node_id: NodeId, gpus: number, place: AgentPlace): AgentClient {
  if (node_id !== place.node_id || gpus !== place.gpus)
    throw new Error(
      `the running agent has node ${node_id} with ${gpus} GPUs, the configuration ${place.node_id} with ${place.gpus}; end it first`,
    );
  return client;
}

type Started = { exit_code: number | null; readonly pid: number | undefined; end(): void };

/** In a session of its own: neither a Ctrl-C nor the end of this process reaches it. */
function startAgent(place: AgentPlace, catalogue_path: string, lease_ms: number): Started {
  const [command = "", ...args] = place.agent_command;
  const flags = ["--state", place.state_dir, "--node", place.node_id, "--gpus", String(place.gpus)];
  const log = openLog(join(place.state_dir, "agent.log"));
  const child = spawn(command, [...args, ...flags, "--lease-ms", String(lease_ms), "--engines", catalogue_path], {
    detached: true,
    stdio: ["ignore", log, log],
    env: passedEnvironment(process.env),
  });
  closeSync(log);
  const started: Started = { exit_code: null, pid: child.pid, end: () => child.kill("SIGKILL") };
  child.once("error", () => (started.exit_code = 1));
  child.once("exit", (code) => (started.exit_code = code ?? 1));
  child.unref();
  return started;
}

function openLog(path: string): number {
  try {
    if (statSync(path).size > AGENT_LOG_BYTES_MAX) rmSync(path);
  } catch {
    // There is none yet.
  }
  return openSync(path, "a", 0o600);
}

/** False when it still runs after the bound. */
export async function agentGone(file: AgentFile, bound_ms: number): Promise<boolean> {
  const give_up = performance.now() + bound_ms;
  while (isRunning(file)) {
    if (performance.now() > give_up) return false;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  return true;
}
