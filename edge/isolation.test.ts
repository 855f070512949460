/** Nothing crosses: between runs that share an isolate, nor between tenants, who never share one (I3, I10). */
import { expect, test } from "vitest";
import { withDatabase } from "./database.ts";
import { runInDurableObject } from "cloudflare:test";
import type { Run } from "./objects/run.ts";
import { a, b, bindings, deploy, invoke, output, request, type RunBody } from "./testing.ts";

/** Two lines of runs through one isolate, each run several turns of the event loop long, so that they interleave at every await. */
const WITNESS = `async (ctx) => {
  isolate.runs += 1;
  const { who, k } = ctx.input;
  const mine = { who, run: ctx.run.id };
  ctx.log(who + " begins");
  globalThis.last = who;
  if (k === 0) globalThis["ctx of " + who] = ctx;
  await ctx.memory.set("last of " + who, k);
  const stolen = globalThis["ctx of " + (who === "left" ? "right" : "left")];
  let denied = "none to steal";
  if (stolen && stolen !== ctx) { try { await stolen.memory.set("stolen", who); denied = "allowed"; } catch (error) { denied = error.code ?? error.message; } }
  console.log(who + " goes on");
  const said = k % 100 === 0 ? (await ctx.agent(who).ai.chat('{"peer":{"words":1}}')).text : "";
  await ctx.emit("met", { who, last: globalThis.last });
  return { mine, who: ctx.input.who, run: ctx.run.id, isolate: isolate.id, crossed: globalThis.last !== who, denied, said };
}`;
type Seen = { mine: { who: string; run: string }; who: string; run: string; isolate: string; crossed: boolean; denied: string };

test("two lines of runs in one isolate, interleaved 1,000 times: no capability, memory, log line, identity or bill crosses", async () => {
  await deploy("witness", WITNESS, {
    before: "const isolate = { id: crypto.randomUUID === undefined ? 'x' : String(Math.random()), runs: 0 };",
    config: { timeout_ms: 20_000 },
  });
  const isolates = new Set<string>();
  let crossings = 0;
  const bills: { run: string; who: string }[] = [];
  for (let k = 0; k < 500; k += 1) {
    const pair = await Promise.all(
      ["left", "right"].map(async (who) => {
        const body = (await (await invoke("witness", { who, k })).json()) as RunBody & { output: Seen };
        return { who, body };
      }),
    );
    for (const { who, body } of pair) {
      const seen = body.output;
      expect(seen).toMatchObject({ who, run: body.run, mine: { who, run: body.run } });
      expect(["capability_denied", "none to steal"]).toContain(seen.denied === "allowed" ? "allowed" : seen.denied);
      isolates.add(seen.isolate);
      if (seen.crossed) crossings += 1;
      if (k % 100 === 0) bills.push({ run: body.run, who });
      if (k % 50 === 0) {
        const { lines } = (await (await request("GET", `/v1/runs/${body.run}/logs`, { key: a.all })).json()) as {
          lines: { text: string }[];
        };
        expect(lines.map((line) => line.text)).toEqual([`${who} begins`, `${who} goes on`]);
      }
    }
  }
  // They did share an isolate, and did interleave in it: a global was seen to change hands.
  expect(isolates.size).toBe(1);
  expect(crossings).toBeGreaterThan(0);
  for (const { run, who } of bills) {
    await runInDurableObject(bindings.RUNS.getByName(run), (object: Run) => object.alarm());
    const rows = await withDatabase(bindings.DB, (sql) => sql<{ kind: string }[]>`select kind from usage where run = ${run} order by kind`);
    expect([who, ...rows.map((row) => row.kind)]).toEqual([who, "edge_request", "edge_wall"]);
  }
  await deploy("witness-reads", "async (ctx) => ctx.memory.list()");
  expect(await output("witness-reads")).toEqual([]);
}, 240_000);

test("two tenants with byte-identical code do not share an isolate", async () => {
  const handler = "() => ({ isolate, runs: (runs += 1) })";
  const before = "let runs = 0; let isolate = null; globalThis.tag ??= null; isolate = globalThis.tag;";
  const versions = await Promise.all([a, b].map((tenant) => deploy("twin", handler, { key: tenant.all, before })));
  expect(versions[0]?.version).not.toBe(versions[1]?.version);
  for (const tenant of [a, b]) {
    for (let n = 1; n <= 5; n += 1) expect(await output("twin", null, { key: tenant.all })).toMatchObject({ runs: n });
  }
});

test("`isolation: run` is an isolate for each run", async () => {
  await deploy("fresh", "() => (runs += 1)", { before: "let runs = 0;", config: { isolation: "run" } });
  expect([await output("fresh"), await output("fresh"), await output("fresh")]).toEqual([1, 1, 1]);
});

test("another tenant's run is not there", async () => {
  await deploy("private", "() => 'mine'");
  const { run } = (await (await invoke("private")).json()) as RunBody;
  for (const [method, path] of [
    ["GET", ""],
    ["GET", "/events"],
    ["GET", "/logs"],
    ["POST", "/cancel"],
  ] as const) {
    const answer = await request(method, `/v1/runs/${run}${path}`, { key: b.all });
    expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([404, "run_not_found"]);
  }
  expect((await invoke("private", null, { key: b.all })).status).toBe(404);
  expect(await (await request("GET", "/v1/functions", { key: b.all })).text()).not.toContain("private");
  for (const id of ["run_0", "nonsense", "run_%2e%2e%2f", "__proto__"])
    expect((await request("GET", `/v1/runs/${id}`, { key: a.all })).status).toBe(404);
});
