/** Nothing crosses: between runs that share an isolate, nor between tenants, who never share one (I3, I10). */
import { expect, test } from "vitest";
import { withDatabase } from "./database.ts";
import { runInDurableObject } from "cloudflare:test";
import type { Run } from "./objects/run.ts";
import { a, b, bindings, deploy, events, invoke, output, request, sibling, sse, type RunBody, type SseEvent } from "./testing.ts";

const PAIRS = 20;
const ROUNDS = 25;
/** Runs in pairs through one isolate, several rounds each; in every round both meet at each await. */
const WITNESS = `async (ctx) => {
  const { who, other } = ctx.input;
  globalThis["ctx of " + who] = ctx;
  const faults = []; let met = 0;
  for (let k = 0; k < ${ROUNDS}; k += 1) {
    globalThis.last = who;
    ctx.log(who + " " + k);
    await ctx.memory.set(who, { who, k });
    const mine = await ctx.memory.get(who);
    if (mine?.who !== who || mine.k !== k) faults.push("memory");
    if (ctx.input.who !== who) faults.push("identity");
    if (globalThis.last !== who) met += 1;
    console.log(who + " still " + k);
    const theirs = globalThis["ctx of " + other];
    if (theirs) {
      try { await theirs.memory.set("stolen by " + who, k); faults.push("capability"); }
      catch (error) { if (error.code !== "capability_denied") faults.push(String(error)); }
    }
    await ctx.emit("round", { who, k });
  }
  const said = await ctx.agent(who).ai.chat(JSON.stringify({ peer: { words: who.length } }));
  if ((await ctx.memory.list({ prefix: "stolen" })).length > 0) faults.push("stolen");
  return { faults, met, isolate, run: ctx.run.id, tokens: said.usage.completion_tokens };
}`;
type Seen = { faults: string[]; met: number; isolate: string; run: string; tokens: number };

test(`runs of one tenant in one isolate, interleaved ${2 * PAIRS * ROUNDS} times: no capability, memory, log line, identity or bill crosses`, async () => {
  await deploy("witness", WITNESS, {
    before: "let isolate = 0; globalThis.loads = (globalThis.loads ?? 0) + 1; isolate = globalThis.loads;",
  });
  let met = 0;
  for (let pair = 0; pair < PAIRS; pair += 1) {
    const [one, two] = [`left${pair}`, `the-right${pair}`];
    await Promise.all(
      [
        { who: one, other: two },
        { who: two, other: one },
      ].map(async (input) => {
        const who = input.who;
        const all = await events(await invoke("witness", input, { headers: { accept: "text/event-stream" } }));
        const run = String(all[0]?.data["run"]);
        const seen = all.at(-1)?.data["output"] as Seen;
        expect(seen).toMatchObject({ faults: [], isolate: 1, run, tokens: who.length });
        met += seen.met;
        expect(all.filter((e) => e.event === "event").map((e) => e.data["data"])).toEqual(
          Array.from({ length: ROUNDS }, (_, k) => ({ who, k })),
        );
        const usage = all
          .filter((e) => e.event === "usage")
          .map((e) => [e.data["agent"], (e.data["usage"] as { completion_tokens: number }).completion_tokens]);
        expect(usage).toEqual([[who, who.length]]);
        const { lines } = (await (await request("GET", `/v1/runs/${run}/logs`, { key: a.all })).json()) as { lines: { text: string }[] };
        expect(lines.map((line) => line.text)).toEqual(
          Array.from({ length: ROUNDS }, (_, k) => [`${who} ${k}`, `${who} still ${k}`]).flat(),
        );
        await runInDurableObject(bindings.RUNS.getByName(run), (object: Run) => object.alarm());
        const rows = await withDatabase(
          bindings.DB,
          (sql) => sql<{ kind: string }[]>`select kind from usage where run = ${run} order by kind`,
        );
        expect(rows.map((row) => row.kind)).toEqual(["edge_request", "edge_wall"]);
      }),
    );
  }
  // They shared the isolate and met in it: a global changed hands between two lines of one run.
  expect(met).toBeGreaterThan(PAIRS);
}, 120_000);

test.each([
  ["AsyncLocalStorage.snapshot", "AsyncLocalStorage.snapshot()"],
  ["AsyncLocalStorage.bind", "AsyncLocalStorage.bind((work, ...args) => work(...args))"],
  ["AsyncResource", "((r) => (work, ...args) => r.runInAsyncScope(work, null, ...args))(new AsyncResource('theirs'))"],
  ["AsyncResource.bind", "AsyncResource.bind((work, ...args) => work(...args))"],
  ["a resource's bind", "new AsyncResource('theirs').bind((work, ...args) => work(...args))"],
])(
  "a module's own captured context (%s) is entered in the name of the run that enters it: no way to a neighbour's ctx",
  async (what, captured) => {
    const name = `captures-${what.toLowerCase().replaceAll(/[^a-z]+/g, "-")}`;
    await deploy(
      name,
      `async (ctx) => {
      if (ctx.input.ask) {
        theirs = ctx;
        const said = await ctx.ai.chat(ctx.input.ask);
        for (let k = 0; k < 3; k += 1) { console.log("mine " + k); await ctx.memory.set("mine", k); }
        return { words: said.usage.completion_tokens, keys: await ctx.memory.list() };
      }
      const faults = [];
      const attempts = [() => theirs.memory.set("stolen", 1), () => theirs.log("stolen"), () => theirs.emit("stolen"), () => theirs.ai.chat("stolen"),
        () => theirs.step("stolen", () => 1), () => theirs.agent("thief").memory.set("stolen", 1)];
      for (const attempt of attempts) {
        try { await enter(attempt); faults.push("let in"); } catch (error) { faults.push(error.code ?? String(error)); }
      }
      const tags = await tag.run("mine", () => Promise.all([enter(() => tag.getStore() ?? null), enter(async () => { await null; return tag.getStore() ?? null; })]));
      await ctx.step("inside", (inner) => enter(async () => { console.log("in the step"); await ctx.emit("here"); }));
      let code = null; try { await enter(() => fetch("https://example.com/")); } catch (error) { code = error.code; }
      return { faults: [...new Set(faults)], tags, code, of: enter((one, two) => [one, two], 1, 2) };
    }`,
      {
        before: `import { AsyncLocalStorage, AsyncResource } from "node:async_hooks";
        const tag = new AsyncLocalStorage(); let theirs; const enter = ${captured};`,
      },
    );
    const logsOf = async (run: string) => {
      const answer = await request("GET", `/v1/runs/${run}/logs`, { key: a.all });
      return (await answer.json<{ lines: { text: string }[] }>()).lines.map((line) => line.text);
    };
    const ask = JSON.stringify({ peer: { words: 60, interval_ms: 5 } });
    const all: SseEvent[] = [];
    for await (const event of sse(await invoke(name, { ask }, { headers: { accept: "text/event-stream" } }))) {
      all.push(event);
      if (event.event !== "step" || event.data["status"] !== "started") continue;
      // The first one is in the middle of its call.
      const other = await (await invoke(name, {})).json<RunBody>();
      expect(other.output ?? other).toEqual({ faults: ["capability_denied"], tags: [null, null], code: "egress_forbidden", of: [1, 2] });
      expect(await logsOf(other.run)).toEqual(["in the step"]);
    }
    expect(all.at(-1)).toMatchObject({ event: "run.done", data: { output: { words: 60, keys: ["mine"] } } });
    expect(all.filter((event) => event.event === "step").map((event) => event.data["path"])).toEqual(["ai#1", "ai#1"]);
    expect(await logsOf(String(all[0]?.data["run"]))).toEqual(["mine 0", "mine 1", "mine 2"]);
  },
);

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

test.each([
  ["tenant", b],
  ["project of the same tenant", sibling],
])("another %s's run is not there: not to read, stream or cancel", async (_what, other) => {
  await deploy("private", "() => new Promise((resolve) => setTimeout(resolve, 20_000))", { config: { timeout_ms: 20_000 } });
  const { run } = (await (await invoke("private", null, { headers: { prefer: "respond-async" } })).json()) as RunBody;
  for (const [method, path] of [
    ["GET", ""],
    ["GET", "/events"],
    ["GET", "/logs"],
    ["POST", "/cancel"],
  ] as const) {
    const answer = await request(method, `/v1/runs/${run}${path}`, { key: other.all });
    expect([answer.status, (await answer.json<{ code: string }>()).code]).toEqual([404, "run_not_found"]);
  }
  // The object itself refuses too: no door before it is what keeps them apart.
  const object = bindings.RUNS.getByName(run);
  const { tenant, project } = other;
  expect(await object.events({ tenant, project, key: "key_x" }, 0)).toBeNull();
  expect(await object.finished({ tenant, project })).toBeNull();
  expect(await object.finished({ tenant: b.tenant, project: a.project })).toBeNull();
  expect(await (await request("GET", `/v1/runs/${run}`, { key: a.all })).json()).toMatchObject({ status: "running" });
  expect((await request("POST", `/v1/runs/${run}/cancel`, { key: a.all })).status).toBe(200);
  expect((await invoke("private", null, { key: other.all })).status).toBe(404);
  expect(await (await request("GET", "/v1/functions", { key: other.all })).text()).not.toContain("private");
});

test("an id that is no run's", async () => {
  for (const id of ["run_0", "nonsense", "run_%2e%2e%2f", "__proto__"])
    expect((await request("GET", `/v1/runs/${id}`, { key: a.all })).status).toBe(404);
});
