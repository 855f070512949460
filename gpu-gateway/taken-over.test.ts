/**
 * A cell that another takes over: after kill -9 of the gateway, and with its state folder gone but for the node's (the next one is another
 * owner with an empty journal); and while the gateway still believes that it has the cell.
 */
import { once } from "node:events";
import { rmSync } from "node:fs";
import path from "node:path";
import { afterEach, expect, test } from "vitest";
import { MODEL, openWorld, type World } from "../test/support/gateway-world.ts";
import { until } from "../test/support/until.ts";

const START_MS = 60_000;

let world: World | null = null;
afterEach(async () => {
  await world?.close();
  world = null;
}, START_MS);

test("it adopts the open provision, meters nothing twice, and has what it did not see on `lost`", async () => {
  const opened = await openWorld({ pools: [{ role: "both", groups: 2 }], lease_ms: START_MS });
  world = opened;
  const ready = () =>
    until("both instances", async () => (await opened.state()).instances.filter(({ state }) => state === "ready").length === 2, START_MS);
  const post = (to: string, body?: object) =>
    fetch(`${opened.url()}${to}`, {
      method: "POST",
      headers: { authorization: `Bearer ${opened.key}`, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  const ask = async () =>
    (await post("/v1/chat/completions", { model: MODEL, messages: [{ role: "user", content: "Mills?" }], max_tokens: 8 })).status;
  const books = async () => {
    expect((await post("/internal/settle")).status).toBe(200);
    const [row] = await opened.sql`
      select
        (select sum(quantity) from usage where kind = 'gpu_time')::text as metered,
        (select sum(p.gpus * (least(coalesce(p.released_at_ns, w.through_ns), w.through_ns) - p.provisioned_at_ns))
           from provisions p, watermarks w where w.cell = p.cell)::text as provisioned,
        (select coalesce(sum(quantity), 0) from usage where cost_centre = 'lost')::float8 as lost,
        (select count(*) from provisions)::int as provisions`;
    return row;
  };

  await ready();
  expect(await ask()).toBe(200);
  const before = await books();
  expect(before?.["metered"]).toBe(before?.["provisioned"]);
  expect(await ask()).toBe(200);
  const engines = (await opened.engines()).map(({ pid }) => pid).toSorted((a, b) => a - b);

  await opened.stop("SIGKILL");
  for (const name of ["journal", "gateway.json"]) rmSync(path.join(opened.state_dir, name), { recursive: true });
  // Its lease, while the node's goes on.
  await opened.sql`update cells set expires_at = now()`;
  await opened.start();
  await ready();
  expect((await opened.engines()).map(({ pid }) => pid).toSorted((a, b) => a - b)).toEqual(engines);
  expect(await ask()).toBe(200);
  const after = await books();
  expect(after?.["metered"]).toBe(after?.["provisioned"]);
  expect(after?.["provisions"]).toBe(1);
  expect(Number(after?.["lost"])).toBeGreaterThan(Number(before?.["lost"]));
}, 120_000);

test("a gateway whose ledger has the cell under a newer epoch says so and ends", async () => {
  const opened = await openWorld({ pools: [{ role: "both", groups: 1 }], lease_ms: START_MS });
  world = opened;
  const exited = once(opened.gateway(), "exit");
  await opened.sql`update cells set epoch = epoch + 1, owner = 'other'`;
  const settled = fetch(`${opened.url()}/internal/settle`, { method: "POST", headers: { authorization: `Bearer ${opened.key}` } });
  settled.then((answer) => answer.body?.cancel()).catch(() => undefined);
  expect(await exited).toEqual([1, null]);
  expect(opened.log()).toMatch(/stopped: another gateway took cell test over under epoch 2; this one has 1/);
}, 120_000);
