/**
 * The gateway's process: `node gpu-gateway/main.ts --config FILE [--no-release-on-exit]`.
 * Says one JSON line on stdout when it serves; logs are JSON lines on stderr. SIGTERM or SIGINT stops it in order and gives the
 * nodes back; a second one does not wait for calls. Exit 0: stopped. 1: could not start, or may command no more.
 */
import { parseArgs } from "node:util";
import { loadConfig } from "./config.ts";
import { startGateway, StartFault, type Log } from "./gateway.ts";

const log: Log = (line, fields) => {
  process.stderr.write(`${JSON.stringify({ at: new Date().toISOString(), msg: line, ...fields })}\n`);
};

function fail(line: string): never {
  process.stderr.write(`millrace gateway: ${line}\n`);
  process.exit(1);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { config: { type: "string" }, "release-on-exit": { type: "boolean", default: true } },
    allowNegative: true,
  });
  if (values.config === undefined) fail("--config FILE is needed");
  const loaded = loadConfig(values.config, process.env);
  if (loaded.type === "faults") fail(`the configuration has ${loaded.faults.length} fault(s): ${loaded.faults.join("; ")}`);
  const { config } = loaded;
  const gateway = await startGateway(config, log);
  process.stdout.write(`${JSON.stringify({ ready: true, url: gateway.url })}\n`);
  void gateway.ended.then((reason) => fail(`stopped: ${reason}`));

  let asked = 0;
  const onSignal = () => {
    asked += 1;
    if (asked > 1) process.exit(1);
    gateway.stop({ release: values["release-on-exit"], drain_ms: config.limits.drain_ms }).then(
      () => process.exit(0),
      (error: unknown) => fail(`stopped badly: ${String(error)}`),
    );
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
}

main().catch((error: unknown) => {
  if (error instanceof StartFault) fail(error.message);
  fail(error instanceof Error ? (error.stack ?? error.message).replaceAll("\n", " ") : String(error));
});
