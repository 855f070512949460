/** Deploys examples/swarm. */
import { join } from "node:path";
import { deploy } from "../commands/deploy.ts";
import type { Connection } from "../connection.ts";

export async function deploySwarm(root: string, connection: Connection): Promise<void> {
  // The specialist first: the swarm calls it.
  for (const name of ["swarm-specialist", "swarm"]) await deploy(connection, join(root, "examples", "swarm", `${name}.ts`), { name });
}
