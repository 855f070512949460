/**
 * One simulated A100 instance: a process that speaks vLLM's OpenAI server protocol. See README.md for flags and rules.
 * Prints one JSON line when it listens; answers 503 until its model is loaded.
 */
import { randomUUID } from "node:crypto";
import type { AddressInfo } from "node:net";
import { Faults } from "./faults.ts";
import { parseOptions } from "./flags.ts";
import { Instance } from "./instance.ts";
import { httpKvPeer, serveKvChannel } from "./kv-channel.ts";
import { createSimulatedServer } from "./server.ts";

const EXIT_USAGE = 2;
const EXIT_ENGINE_DEAD = 1;
const DEAD_LINGER_MS = 250; // /health says 503 so long before the process ends, as seen on vLLM

const outcome = parseOptions(process.argv.slice(2), randomUUID());
if (outcome.type === "faults") {
  for (const fault of outcome.faults) process.stderr.write(`${fault}\n`);
  process.exit(EXIT_USAGE);
}
const { options } = outcome;
const instance = new Instance(options, new Faults(), httpKvPeer);
const channel = await serveKvChannel(instance);
const server = createSimulatedServer(instance, channel.port);
await new Promise<void>((resolve, reject) => {
  server.once("error", reject);
  server.listen(options.port, options.host, 511, resolve);
});
const { port } = server.address() as AddressInfo;
const ready = {
  ready: true,
  url: `http://${options.host}:${port}`,
  pid: process.pid,
  model: options.profile.name,
  gpus: options.profile.gpus,
  role: options.role,
  engine_id: options.engine_id,
  loading_ms: options.load_ms,
};
process.stdout.write(`${JSON.stringify(ready)}\n`);
setTimeout(() => {
  instance.state = "ready";
}, options.load_ms);
instance.onDeath = () => setTimeout(() => process.exit(EXIT_ENGINE_DEAD), DEAD_LINGER_MS);

process.on("SIGTERM", () => process.exit(0));
process.on("SIGINT", () => process.exit(0));
if (options.exit_with_stdin) {
  process.stdin.on("end", () => process.exit(0));
  process.stdin.on("error", () => process.exit(0));
  process.stdin.resume();
}
