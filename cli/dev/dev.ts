/** `millrace dev`: brings the product up, deploys the example, says what to try, and waits for Ctrl-C. */
import { printLine } from "../output.ts";
import { deploySwarm } from "./example.ts";
import { welcome } from "./welcome.ts";
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
    state: flags.state,
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
      await starting.then(
        (running) => running.stop(),
        () => {}, // a terminal's Ctrl-C reaches what a start runs in its own group (initdb) too: that it fails is no news
      );
      return 130;
    }
    await deploySwarm(flags.root, { url: first.edge_url, key: first.key });
    first.mark_ready();
    printLine(welcome(first, { root: flags.root, state: flags.state, cwd: process.cwd() }));
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
