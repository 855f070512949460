/** `millrace dev`: brings the product up, deploys the example, says what to try, and waits for Ctrl-C. */
import { join } from "node:path";
import { printLine } from "../output.ts";
import { deploySwarm } from "./example.ts";
import { start, StartFault, type StartOptions } from "./start.ts";

export type DevFlags = {
  readonly root: string;
  readonly state: string;
  readonly edgePort?: number;
  readonly gatewayPort?: number;
  readonly postgresPort?: number;
  readonly speed: number;
  readonly restart: boolean;
  readonly env: NodeJS.ProcessEnv;
};

export function startOptions(flags: DevFlags, say: (line: string) => void): StartOptions {
  return {
    root: flags.root,
    state: flags.state === ".millrace" ? join(flags.root, ".millrace") : flags.state,
    ...(flags.edgePort === undefined ? {} : { edge_port: flags.edgePort }),
    ...(flags.gatewayPort === undefined ? {} : { gateway_port: flags.gatewayPort }),
    ...(flags.postgresPort === undefined ? {} : { postgres_port: flags.postgresPort }),
    ...(flags.env["DATABASE_URL"] ? { database_url: flags.env["DATABASE_URL"] } : {}),
    speed: flags.speed,
    restart: flags.restart,
    say,
  };
}

export async function dev(flags: DevFlags): Promise<number> {
  const interrupted = new Promise<"interrupted">((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => resolve("interrupted"));
  });
  const say = (line: string) => process.stderr.write(`millrace: ${line}\n`);
  const starting = start(startOptions(flags, say));
  try {
    const first = await Promise.race([starting, interrupted]);
    if (first === "interrupted") {
      // What is half up comes up first: only then is it known what to stop.
      say("stopping …");
      await starting.then((running) => running.stop());
      return 130;
    }
    await deploySwarm(flags.root, { url: first.edge_url, key: first.key });
    first.mark_ready();
    printLine(welcome(first));
    await interrupted;
    say("stopping …");
    await first.stop();
    return 0;
  } catch (error) {
    if (!(error instanceof StartFault)) await starting.then((running) => running.stop()).catch(() => {});
    process.stderr.write(`millrace: ${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  }
}

function welcome(running: { edge_url: string; gateway_url: string; key: string }): string {
  const { edge_url, gateway_url, key } = running;
  return [
    "",
    "ready",
    `  edge     ${edge_url}`,
    `  gateway  ${gateway_url}`,
    `  key      ${key}`,
    "",
    "Try (in another terminal, in this folder):",
    "",
    "  # ask the swarm over HTTP",
    `  curl -sS ${edge_url}/v1/functions/swarm/invocations -H 'Authorization: Bearer ${key}' -H 'Content-Type: application/json' -d '{"input":{"question":"Should we heat the greenhouse with waste heat from the GPU hall?"}}'`,
    "",
    "  # hold a WebSocket session with it",
    `  npx millrace chat swarm`,
    "",
    "  # who used what, what it cost, and that it adds up",
    `  curl -sS '${edge_url}/v1/usage?group_by=agent&settle=true' -H 'Authorization: Bearer ${key}'`,
    "",
    "Ctrl-C stops everything.",
  ].join("\n");
}
