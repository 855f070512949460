/** A node in a temporary folder, and what tests ask of the operating system about it. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { asId } from "../../../schema/core/ids.ts";
import type { EngineCatalogueInput } from "../../node-agent/catalogue.ts";
import type { EngineEntry } from "../../node-agent/engines-file.ts";
import type { ProcessIdentity } from "../../node-agent/processes.ts";
import { findMarked, isRunning } from "../../node-agent/processes.ts";
import type { AgentFile } from "../../node-agent/wire.ts";
import type { Provider, RunningGroup } from "../../ports/provider.ts";
import { findAgent } from "./agent-process.ts";
import { createLocalProvider } from "./local.ts";

const TINY_ENGINE = fileURLToPath(new URL("../../node-agent/tiny-engine.ts", import.meta.url));

export function tinyEngine(flags: readonly string[] = [], limits: { readonly ready_ms?: number; readonly stop_ms?: number } = {}) {
  return { command: [process.execPath, TINY_ENGINE, "--port", "{port}", ...flags], ...limits };
}

export class LocalNode {
  readonly state_dir: string = mkdtempSync(path.join(os.tmpdir(), "millrace-node-"));
  readonly node_id = asId<"node">("node_test");
  readonly gpus = 4;
  readonly engines: EngineCatalogueInput;

  constructor(engines: EngineCatalogueInput) {
    this.engines = engines;
  }

  create(): Provider {
    return createLocalProvider({ state_dir: this.state_dir, node_id: this.node_id, gpus: this.gpus, engines: this.engines });
  }

  agent(): AgentFile | null {
    return findAgent(this.state_dir);
  }

  read(name: string): string {
    return readFileSync(path.join(this.state_dir, name), "utf8");
  }

  /** The engines' processes and their children, by what they carry in their environment. */
  processes(): readonly ProcessIdentity[] {
    try {
      const { mark } = JSON.parse(this.read("engines.json")) as { mark: string };
      return findMarked(`MILLRACE_ENGINE_OF=${mark}`);
    } catch {
      return [];
    }
  }

  engineOf(group: RunningGroup): ProcessIdentity {
    const { engines } = JSON.parse(this.read("engines.json")) as { engines: EngineEntry[] };
    const found = engines.find((engine) => engine.group_id === group.group_id)?.process;
    if (found === undefined || found === null) throw new Error(`${group.group_id} has no process`);
    return found;
  }

  /** Ends whatever a failed test has left. */
  close(): void {
    const agent = this.agent();
    for (const left of [...(agent === null ? [] : [agent]), ...this.processes()]) if (isRunning(left)) process.kill(left.pid, "SIGKILL");
    rmSync(this.state_dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 });
  }
}
