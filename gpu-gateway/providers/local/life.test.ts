/** Lives and deaths that only processes on one machine have: stubborn engines, orphans, hung agents, a gateway that never comes back. */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdirSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import { asId } from "../../../schema/core/ids.ts";
import { until, within } from "../../../test/support/until.ts";
import type { EngineCatalogueInput } from "../../node-agent/catalogue.ts";
import { LOG_BYTES_MAX } from "../../node-agent/limits.ts";
import { isRunning } from "../../node-agent/processes.ts";
import type { Provider, ProviderEvent, RunningGroup } from "../../ports/provider.ts";
import { Fenced } from "../../ports/provider.ts";
import { DEFAULT_AGENT_COMMAND } from "./agent-process.ts";
import { createLocalProvider } from "./local.ts";
import { LocalNode, tinyEngine } from "./testing.ts";

const ended: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ended.splice(0).toReversed()) await end();
});

function place(engines: EngineCatalogueInput): LocalNode {
  const node = new LocalNode(engines);
  ended.push(() => node.close());
  return node;
}

async function opened(node: LocalNode, provider: Provider = node.create(), lease_ms = 60_000) {
  const events: ProviderEvent[] = [];
  await provider.open({ cell: "cell_test", epoch: 1, lease_ms }, (event) => events.push(event));
  ended.push(() => provider.close());
  const launch = async (engine: string, gpus = 1): Promise<RunningGroup> => {
    const outcome = await provider.launch({ group_id: asId<"group">("grp_a"), model: "tiny", role: "both", engine, gpus });
    if (outcome.type === "refused") throw new Error(outcome.reason);
    return outcome.group;
  };
  const told = <T extends ProviderEvent["type"]>(type: T) =>
    until(type, () => events.find((event): event is Extract<ProviderEvent, { type: T }> => event.type === type), 20_000);
  const ready = () => until("ready", () => events.some((event) => event.type === "group" && event.group.state === "ready"));
  return { provider, events, launch, told, ready };
}

const GATEWAY = fileURLToPath(new URL("./testing-gateway.ts", import.meta.url));
/** A gateway in a process of its own, with one engine ready. */
async function gatewayProcess(node: LocalNode, lease_ms: number) {
  const args = [GATEWAY, node.state_dir, node.node_id, String(node.gpus), JSON.stringify(node.engines), String(lease_ms)];
  const gateway = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  ended.push(() => gateway.kill("SIGKILL"));
  await within("the gateway's engine", once(gateway.stdout, "data"));
  return gateway;
}

describe("a gateway that is SIGKILLed", () => {
  test("for good: engines, the agent and the provision end with the lease", async () => {
    const node = place({ tiny: tinyEngine() });
    const gateway = await gatewayProcess(node, 2_000);
    const agent = node.agent();
    if (agent === null) throw new Error("no agent");
    const engines = node.processes();
    expect(engines).toHaveLength(1);
    gateway.kill("SIGKILL");
    await until("nothing to be left", () => ![agent, ...engines, ...node.processes()].some((left) => isRunning(left)));
    const lines = node.read("provisions.jsonl").trim().split("\n");
    expect(JSON.parse(lines.at(-1) ?? "")).toMatchObject({ type: "closed", reason: "the lease ran out" });
  });

  test("and comes back in time: the same agent, the same engine", async () => {
    const node = place({ tiny: tinyEngine() });
    const gateway = await gatewayProcess(node, 30_000);
    const before = [node.agent(), node.processes()];
    gateway.kill("SIGKILL");
    const provider = node.create();
    const adopted = await provider.open({ cell: "cell_killed", epoch: 2, lease_ms: 30_000 }, () => {});
    ended.push(() => provider.close());
    expect(adopted).toMatchObject([{ group_id: "grp_a", state: "ready", epoch: 1 }]);
    expect([node.agent(), node.processes()]).toEqual(before);
  });
});

describe("an engine", () => {
  test("that ignores SIGTERM gets SIGKILL after the catalogue's bound, and its children go with it", async () => {
    const node = place({ stubborn: tinyEngine(["--stubborn", "--child"], { stop_ms: 50 }) });
    const { provider, launch, told, ready } = await opened(node);
    await launch("stubborn");
    await ready();
    await until("engine and child", () => node.processes().length === 2);
    await provider.stop(asId<"group">("grp_a"));
    await told("group_stopped");
    expect(node.processes()).toEqual([]);
  });

  test("keeps its GPUs provisioned until it is gone, not until it was asked to go", async () => {
    const node = place({ stubborn: tinyEngine(["--stubborn"], { stop_ms: 300 }) });
    const { provider, launch, ready } = await opened(node);
    await launch("stubborn");
    await ready();
    const release = provider.release();
    let last_seen_ms = 0;
    await until("the engine's end", () => {
      const now_ms = Date.now();
      if (node.processes().length === 0) return true;
      last_seen_ms = now_ms;
      return false;
    });
    const [released] = await release;
    // The agent reads the same clock in nanoseconds; the test's reading is cut to the millisecond before.
    expect(released?.released_at).toBeGreaterThanOrEqual(BigInt(last_seen_ms) * 1_000_000n);
  });

  test("that dies leaves no child behind on its GPUs", async () => {
    const node = place({ parent: tinyEngine(["--child"]) });
    const { launch, told, ready } = await opened(node);
    const group = await launch("parent", 4);
    await ready();
    await until("engine and child", () => node.processes().length === 2);
    process.kill(node.engineOf(group).pid, "SIGKILL");
    expect((await told("group_lost")).reason).toBe("the engine was ended by SIGKILL");
    await until("the child's end", () => node.processes().length === 0);
  });

  test("that outlives its agent is ended before a restarted agent answers", async () => {
    const node = place({ stubborn: tinyEngine(["--stubborn", "--child"]) });
    const { provider, launch, told, ready } = await opened(node);
    await launch("stubborn");
    await ready();
    await until("engine and child", () => node.processes().length === 2);
    const orphans = node.processes();
    const agent = node.agent();
    if (agent === null) throw new Error("no agent");
    process.kill(agent.pid, "SIGKILL");
    await told("node_unreachable");
    expect(orphans.every((orphan) => isRunning(orphan))).toBe(true);
    expect(await provider.renew()).toHaveLength(1);
    expect((await told("group_lost")).reason).toBe("the node agent was restarted");
    expect(orphans.some((orphan) => isRunning(orphan))).toBe(false);
  });

  test("that is not ready in time fails, is stopped and lost", async () => {
    const node = place({ slow: tinyEngine(["--load-ms", "600000"], { ready_ms: 100 }) });
    const { events, launch, told } = await opened(node);
    await launch("slow");
    expect((await told("group_lost")).reason).toBe("the engine was not ready within 100 ms");
    expect(events.map((event) => (event.type === "group" ? event.group.state : event.type))).toEqual(["provision", "failed", "group_lost"]);
    expect(node.processes()).toEqual([]);
  });

  test("that exits while it loads, or cannot be started at all, is lost with the reason", async () => {
    const node = place({ quits: tinyEngine(["--quit"]), missing: { command: ["/no/such/program"] } });
    const first = await opened(node);
    await first.launch("quits");
    expect((await first.told("group_lost")).reason).toBe("the engine exited with code 7 before it was ready");
    await until("its last words", () => node.read("logs/grp_a.log").includes("no more"));
    first.events.length = 0;
    await until("the GPUs to be free", () => node.processes().length === 0);
    await first.launch("missing", 3);
    expect((await first.told("group_lost")).reason).toBe("the engine cannot be started: ENOENT before it was ready");
  });

  test("has a bounded log", async () => {
    const node = place({ chatty: tinyEngine(["--chatty", String(3 * LOG_BYTES_MAX)]) });
    const { launch, provider } = await opened(node);
    await launch("chatty");
    const logs = path.join(node.state_dir, "logs");
    await until("the older half", () => readdirSync(logs).includes("grp_a.log.old"));
    await provider.release();
    const bytes = ["grp_a.log", "grp_a.log.old"].map((name) => statSync(path.join(logs, name)).size);
    expect(Math.max(...bytes)).toBeLessThanOrEqual(LOG_BYTES_MAX / 2);
    expect(bytes[1]).toBeGreaterThan(0);
  });

  test("sees its own GPUs and none of the gateway's secrets", async () => {
    process.env["MILLRACE_CELL_SECRET"] = "not for engines";
    ended.push(() => delete process.env["MILLRACE_CELL_SECRET"]);
    const node = place({ tiny: tinyEngine() });
    const { launch, ready } = await opened(node);
    const group = await launch("tiny", 2);
    await ready();
    const seen = (await (await fetch(`${group.instances[0]?.url ?? ""}/env`)).json()) as { devices: string; names: string[] };
    expect(seen.devices).toBe("0,1");
    expect(seen.names).not.toContain("MILLRACE_CELL_SECRET");
  });
});

describe("an agent", () => {
  test("that gets SIGTERM gives everything back and exits", async () => {
    const node = place({ tiny: tinyEngine() });
    const { launch, ready, told } = await opened(node);
    await launch("tiny");
    await ready();
    const agent = node.agent();
    if (agent === null) throw new Error("no agent");
    process.kill(agent.pid, "SIGTERM");
    await told("group_stopped");
    await until("its end", () => !isRunning(agent));
    expect(node.processes()).toEqual([]);
    expect(JSON.parse(node.read("provisions.jsonl").trim().split("\n").at(-1) ?? "")).toMatchObject({ type: "closed", reason: "SIGTERM" });
  });

  test("that hangs is reported, and followed again when it goes on", async () => {
    const node = place({ tiny: tinyEngine() });
    const { state_dir, node_id, gpus, engines } = node;
    const provider = createLocalProvider({ state_dir, node_id, gpus, engines, poll_wait_ms: 50 });
    const { told, launch, ready } = await opened(node, provider);
    const agent = node.agent();
    if (agent === null) throw new Error("no agent");
    process.kill(agent.pid, "SIGSTOP");
    expect((await told("node_unreachable")).since_ms).toBeGreaterThan(0);
    process.kill(agent.pid, "SIGCONT");
    await launch("tiny");
    await ready();
    expect(node.agent()).toEqual(agent);
  });

  test("is one, however many gateways start it at once", async () => {
    const node = place({ tiny: tinyEngine() });
    const providers = Array.from({ length: 4 }, () => node.create());
    await Promise.all(providers.map((provider) => provider.open({ cell: "cell_test", epoch: 1, lease_ms: 60_000 }, () => {})));
    ended.push(() => Promise.all(providers.map((provider) => provider.close())));
    const nodes = await Promise.all(providers.map((provider) => provider.renew()));
    expect(nodes.flat()).toHaveLength(4);
    expect(node.read("provisions.jsonl").trim().split("\n")).toHaveLength(1);
    // Also none that is still on its way, and would wait a whole lease for nobody.
    const agents = () =>
      execFileSync("ps", ["-eo", "args"], { encoding: "utf8" })
        .split("\n")
        .filter((line) => line.includes(node.state_dir));
    await until("one agent", () => agents().length === 1);
  });

  test("does not start where another has the state folder, nor with flags that mean nothing", async () => {
    const node = place({ tiny: tinyEngine() });
    const { provider } = await opened(node);
    const before = node.agent();
    const start = (...flags: string[]) => {
      const [command = "", ...args] = DEFAULT_AGENT_COMMAND;
      return spawnSync(command, [...args, ...flags], { encoding: "utf8", timeout: 20_000 });
    };
    const catalogue = path.join(node.state_dir, "catalogue.json");
    const flags = ["--state", node.state_dir, "--gpus", "4", "--lease-ms", "1000", "--engines", catalogue];
    expect(start(...flags, "--node", "node_test").status).toBe(3);
    const faulty = start(...flags, "--node", "../x", "--gpus", "0");
    expect([faulty.status, faulty.stderr.match(/--\w+/g)]).toEqual([2, ["--node", "--gpus"]]);
    expect(node.agent()).toEqual(before);
    expect(await provider.renew()).toHaveLength(1);
  });

  test("does not start on a record that was tampered with, and says where to look", async () => {
    const node = place({ tiny: tinyEngine() });
    writeFileSync(
      path.join(node.state_dir, "provisions.jsonl"),
      '{"type":"closed","provision_id":"prv_x","released_at":"1","reason":""}\n',
    );
    await expect(node.create().open({ cell: "c", epoch: 1, lease_ms: 1_000 }, () => {})).rejects.toThrow(
      /exited with code 1; see .*agent\.log/,
    );
  });
});

test("a lease that is over: nothing is said to the node, and a node that is gone is not brought back (I13)", async () => {
  const node = place({ tiny: tinyEngine() });
  const provider = node.create();
  let held = true;
  await provider.open({ cell: "cell_test", epoch: 1, lease_ms: 60_000, holds: () => held }, () => undefined);
  ended.push(() => provider.close());
  const spec = { model: "tiny", role: "both", engine: "tiny", gpus: 1 } as const;
  await provider.launch({ ...spec, group_id: asId<"group">("grp_a") });
  await provider.renew();
  held = false;
  expect(await provider.launch({ ...spec, group_id: asId<"group">("grp_b") })).toMatchObject({ type: "refused" });
  await expect(provider.stop(asId<"group">("grp_a"))).rejects.toThrow(Fenced);
  await expect(provider.release()).rejects.toThrow(Fenced);
  expect(node.processes().length).toBe(1);
  const agent = node.agent();
  if (agent === null) throw new Error("no agent");
  process.kill(agent.pid, "SIGKILL");
  await until("the agent's end", () => !isRunning(agent));
  await expect(provider.renew()).rejects.toThrow(Fenced);
  expect(node.agent()).toBeNull();
});
