/**
 * SIGSTOP of the gateway until its lease is over, then SIGCONT: it wakes with timers due, requests waiting and engines that are gone.
 * It must know that it commands no more before it does anything else (I13).
 */
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { afterEach, expect, test } from "vitest";
import { MODEL, openWorld, type World } from "../test/support/gateway-world.ts";
import { until } from "../test/support/until.ts";
import { identify, isRunning } from "./node-agent/processes.ts";

const LEASE_MS = 1_500;
const START_MS = 60_000;

let world: World | null = null;
afterEach(async () => {
  await world?.close();
  world = null;
}, START_MS);

const ready = (of: World) =>
  until("all instances", async () => (await of.state()).instances.filter(({ state }) => state === "ready").length === 2, START_MS);

async function ask(of: World, signal?: AbortSignal): Promise<number> {
  const answer = await fetch(`${of.url()}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${of.key}`, "content-type": "application/json" },
    body: JSON.stringify({ model: MODEL, messages: [{ role: "user", content: "Tell me of mills." }], max_tokens: 500 }),
    ...(signal === undefined ? {} : { signal }),
  });
  await answer.text();
  return answer.status;
}

test.each(["idle", "with calls before and during it"])(
  "a gateway that stood still past its lease, %s: commands nothing, ends, and the books add up",
  async (how) => {
    const opened = await openWorld({
      lease_ms: LEASE_MS,
      speed: 1,
      pools: [
        { role: "prefill", groups: 1 },
        { role: "decode", groups: 1 },
      ],
    });
    world = opened;
    await ready(opened);
    const calls: Promise<number>[] = [];
    const call = () => void calls.push(ask(opened, AbortSignal.timeout(START_MS)).catch(() => 0));
    if (how !== "idle") {
      call();
      await until("a leg", async () => (await opened.state()).legs > 0);
    }
    const { epoch } = await opened.state();
    const engines = (await opened.engines()).map(({ pid }) => identify(pid));
    const node = path.join(opened.state_dir, "nodes", "node-1");
    const provisions = () => readFileSync(path.join(node, "provisions.jsonl"), "utf8");

    const gateway = opened.gateway();
    gateway.kill("SIGSTOP");
    if (how !== "idle") call();
    // The node gave itself back, and the cell is anybody's.
    await until("the node's end", () => !existsSync(path.join(node, "agent.json")), START_MS);
    await until("the lease's end", async () => {
      const [row] = await opened.sql`select expires_at < now() as over from cells`;
      return row?.["over"] === true;
    });
    const given_back = provisions();

    const exited = once(gateway, "exit");
    gateway.kill("SIGCONT");
    expect((await exited)[0]).toBe(1);
    expect(opened.log()).toMatch(/millrace gateway: stopped: (this process stood still|the cell's lease could not be renewed)/);
    expect(await Promise.all(calls)).not.toContain(200);
    for (const engine of engines) expect(engine !== null && isRunning(engine)).toBe(false);
    // Nobody was brought back to a node, and no lease was renewed, by an epoch that had run out.
    expect(provisions()).toBe(given_back);
    expect(existsSync(path.join(node, "agent.json"))).toBe(false);
    expect((await opened.sql`select epoch::int as epoch, expires_at < now() as over from cells`)[0]).toEqual({ epoch, over: true });

    await opened.start();
    await ready(opened);
    expect((await opened.state()).epoch).toBe(epoch + 1);
    expect(await ask(opened)).toBe(200);
    const settled = await fetch(`${opened.url()}/internal/settle`, { method: "POST", headers: { authorization: `Bearer ${opened.key}` } });
    expect(settled.status).toBe(200);
    const [books] = await opened.sql`
    select
      (select sum(quantity) from usage where kind = 'gpu_time')::text as metered,
      (select sum(p.gpus * (least(coalesce(p.released_at_ns, w.through_ns), w.through_ns) - p.provisioned_at_ns))
         from provisions p, watermarks w where w.cell = p.cell)::text as provisioned,
      (select sum(quantity) from usage where cost_centre = 'lost') > 0 as gap_is_lost`;
    expect(books?.["metered"]).toBe(books?.["provisioned"]);
    expect(books?.["gap_is_lost"]).toBe(true);
  },
  120_000,
);
