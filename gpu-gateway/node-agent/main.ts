/**
 * The node agent: one process a node, which outlives gateways and is outlived by no engine. See README.md for its life.
 *
 *   node main.ts --state DIR --node ID --gpus N --lease-ms MS --engines FILE
 *
 * Exit: 0 it has given its GPUs back (released, lease over, signal); 2 wrong flags; 3 another agent has this state folder;
 * 1 anything else, with the provision still open: the next agent on this folder goes on with it.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { z } from "zod";
import { ID_PATTERN, asId } from "../../schema/core/ids.ts";
import { readCatalogue } from "./catalogue.ts";
import { NodeClock } from "./clock.ts";
import { lockFolder, writeAtomically } from "./durable.ts";
import { EnginesFile } from "./engines-file.ts";
import { Feed } from "./feed.ts";
import { Fence } from "./fence.ts";
import { GPUS_MAX } from "./limits.ts";
import { AgentNode } from "./node.ts";
import { identify } from "./processes.ts";
import { ProvisionRecord } from "./provisions.ts";
import { AgentServer } from "./server.ts";
import { AGENT_FILE_NAME, leaseMs } from "./wire.ts";

const flags = z.object({
  state: z.string().min(1),
  node: z
    .string()
    .regex(ID_PATTERN)
    .transform((value) => asId<"node">(value)),
  gpus: z.coerce.number().int().min(1).max(GPUS_MAX),
  "lease-ms": z.coerce.number().pipe(leaseMs),
  engines: z.string().min(1),
});
type Flags = z.infer<typeof flags>;

function readFlags(): Flags | null {
  const text = { type: "string" } as const;
  const { values } = parseArgs({ options: { state: text, node: text, gpus: text, "lease-ms": text, engines: text }, strict: false });
  const result = flags.safeParse(values);
  if (result.success) return result.data;
  for (const issue of result.error.issues) console.error(`--${issue.path.join(".")}: ${issue.message}`);
  return null;
}

async function main(): Promise<number> {
  const given = readFlags();
  if (given === null) return 2;
  const { node: node_id, gpus, "lease-ms": lease_ms, engines: catalogue_path } = given;
  const dir = resolve(given.state);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const lock = lockFolder(dir);
  if (lock === null) {
    console.error(`another agent has ${dir}`);
    return 3;
  }

  const provisions = new ProvisionRecord(join(dir, "provisions.jsonl"), `node-agent:${node_id}`);
  const clock = new NodeClock(join(dir, "clock"), provisions.last_instant);
  const engines = new EnginesFile(join(dir, "engines.json"), randomBytes(16).toString("hex"));
  const feed = new Feed(randomBytes(8).toString("hex"));
  const orphans = await engines.endOrphans();
  for (const group_id of orphans) feed.push({ type: "group_lost", group_id: asId<"group">(group_id), reason: "its agent died" });

  const node = new AgentNode({
    node_id,
    gpus,
    lease_ms,
    log_folder: join(dir, "logs"),
    catalogue: () => readCatalogue(catalogue_path),
    clock,
    provisions,
    fence: new Fence(join(dir, "owner.json")),
    engines,
    feed,
    new_provision_id: () => `prv_${randomBytes(16).toString("hex")}`,
  });
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => void node.leave(signal).catch(() => {}));

  const token = randomBytes(32).toString("base64url");
  const server = new AgentServer(node, feed, token);
  const url = await server.listen();
  const self = identify(process.pid);
  if (self === null) throw new Error("cannot tell when this process started");
  const file = join(dir, AGENT_FILE_NAME);
  writeAtomically(file, JSON.stringify({ ...self, node_id, url, token }));
  console.log(`node ${node_id} with ${gpus} GPUs at ${url}, pid ${process.pid}`);

  const reason = await node.left;
  console.log(`left: ${reason}`);
  feed.close();
  rmSync(file, { force: true });
  await server.close();
  clock.close();
  provisions.close();
  lock.release();
  return 0;
}

process.exit(await main());
