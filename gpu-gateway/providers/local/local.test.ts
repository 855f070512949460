/** The local provider passes the suite of all providers: with the smallest engine there is, and with the simulated A100 instance. */
import { fileURLToPath } from "node:url";
import { until } from "../../../test/support/until.ts";
import type { EngineCatalogueInput } from "../../node-agent/catalogue.ts";
import { isRunning } from "../../node-agent/processes.ts";
import type { ProviderHarness } from "../../ports/provider.conformance.ts";
import { describeProvider } from "../../ports/provider.conformance.ts";
import { LocalNode, tinyEngine } from "./testing.ts";

function harness(engines: EngineCatalogueInput, engine: string, model: string): ProviderHarness {
  const node = new LocalNode(engines);
  return {
    gpus: node.gpus,
    engine,
    model,
    create: () => node.create(),
    killEngine: (group) => process.kill(node.engineOf(group).pid, "SIGKILL"),
    killAgent: async () => {
      const agent = node.agent();
      if (agent === null) throw new Error("no agent runs");
      process.kill(agent.pid, "SIGKILL");
      await until("the agent's end", () => !isRunning(agent));
    },
    enginesRunning: () => node.processes().length,
    agentsRunning: () => (node.agent() === null ? 0 : 1),
    close: () => Promise.resolve(node.close()),
  };
}

describeProvider("local, tiny engine", () => Promise.resolve(harness({ tiny: tinyEngine() }, "tiny", "tiny")), { kill_agent: true });

const SIMULATED = fileURLToPath(new URL("../../engines/simulated/main.ts", import.meta.url));
const simulated = {
  command: [
    process.execPath,
    SIMULATED,
    "--port",
    "{port}",
    "--model",
    "{model}",
    "--role",
    "{role}",
    "--load-ms",
    "10",
    "--exit-with-stdin",
  ],
};
describeProvider("local, simulated A100 instance", () => Promise.resolve(harness({ simulated }, "simulated", "llama-3-8b")), {
  kill_agent: true,
});
