/** What a fan-out costs the database: connections for its root, not for each of its runs; each token's rows, once; every run's usage, once. */
import { abortAllDurableObjects, runInDurableObject } from "cloudflare:test";
import { beforeAll, expect, test } from "vitest";
import { asId, deriveId, randomId, type RunId } from "../schema/core/ids.ts";
import type { UsageEvent } from "../schema/core/wire/usage.ts";
import { withDatabase } from "./database.ts";
import type { Run } from "./objects/run.ts";
import type { RunSpec } from "./objects/run-spec.ts";
import { a, bindings, deploy, events, forgetCode, invoke, request, sse, type RunBody } from "./testing.ts";

const AGENTS = 100;
/** The door's key and function, the root's code, each called function and its code, usage; and usage again for what was late. */
const CONNECTIONS_MAX = 10;
const words = (count: number) => JSON.stringify({ peer: { words: count, interval_ms: 1 } });

const database = bindings.DB;
/** Connections that this file's Worker and objects asked for: each reads the address once. */
let opened = 0;
const counting = {
  host: database.host,
  port: database.port,
  get connectionString() {
    opened += 1;
    return database.connectionString;
  },
};
const useDatabase = (DB: object) => void ((bindings as { DB: object }).DB = DB);

const usageOf = (run: string) =>
  withDatabase(database, (sql) => sql<{ kind: string; agent: string }[]>`select kind, agent from usage where run = ${run}`);
/** Waits for those of the last child, which may come after the run's end. */
async function wallOf(run: string, count: number): Promise<string[]> {
  for (;;) {
    const rows = (await usageOf(run)).filter((row) => row.kind === "edge_wall");
    if (rows.length >= count) return rows.map((row) => row.agent).sort();
    await scheduler.wait(20);
  }
}
const expected = (of: Record<string, number>) =>
  Object.entries(of)
    .flatMap(([agent, count]) => Array.from({ length: count }, () => agent))
    .sort();

beforeAll(async () => {
  useDatabase(counting);
  for (const isolation of ["version", "run"]) {
    const config = { isolation };
    await deploy(`leaf-${isolation}`, "async (ctx) => (await ctx.ai.chat(ctx.input)).usage.completion_tokens", { config });
    await deploy(`branch-${isolation}`, `async (ctx) => ctx.call('leaf-${isolation}', ctx.input)`, { config });
    await deploy(
      `root-${isolation}`,
      `async (ctx) => ctx.fanout([...Array(ctx.input.n).keys()], (i, branch) => branch.call(ctx.input.calls + '-${isolation}', ctx.input.ask))`,
      { config },
    );
  }
});

test.each([
  ["version", "leaf", {}],
  ["version", "branch", { "branch-version": AGENTS / 2 }],
  ["run", "leaf", {}],
  ["run", "branch", { "branch-run": AGENTS / 2 }],
])(
  `${AGENTS} agents (isolation %s, each called by the root or by a branch: %s) take few connections, and are all billed`,
  async (isolation, calls, branches) => {
    const leaves = calls === "leaf" ? AGENTS : AGENTS / 2;
    forgetCode();
    opened = 0;
    const answer = await invoke(`root-${isolation}`, { n: leaves, calls, ask: words(3) });
    const { run, output: counts } = await answer.json<RunBody>();
    expect(counts).toEqual(Array.from({ length: leaves }, () => 3));
    const agents = expected({ [`root-${isolation}`]: 1, [`leaf-${isolation}`]: leaves, ...branches });
    expect(await wallOf(run, agents.length)).toEqual(agents);
    expect(opened).toBeLessThanOrEqual(CONNECTIONS_MAX);
  },
  120_000,
);

test("a called function's token is stored by its program's root alone: a frame, an event, and the frame's end", async () => {
  const agents = 20;
  const changesOf = (id: string) =>
    runInDurableObject(
      bindings.RUNS.getByName(id),
      (_object: Run, { storage }) => storage.sql.exec<{ c: number }>("SELECT total_changes() AS c").one().c,
    );
  const measure = async (tokens: number) => {
    const answer = await invoke("root-version", { n: agents, calls: "leaf", ask: words(tokens) });
    const { run, output } = await answer.json<RunBody>();
    expect(output).toEqual(Array.from({ length: agents }, () => tokens));
    await wallOf(run, 1 + agents);
    const children = await Promise.all(Array.from({ length: agents }, (_, i) => changesOf(deriveId("run", run, `fanout#1/${i}/call#1`))));
    return { root: await changesOf(run), child: Math.max(...children) };
  };
  const few = await measure(10);
  const many = await measure(110);
  expect((many.root - few.root) / (agents * 100)).toBe(3);
  // What a child writes does not depend on how much the model says.
  expect(many.child).toBe(few.child);
});

test("usage that the root has taken is shipped by its next life; the same again counts once", async () => {
  const away = { connectionString: "postgres://nobody@127.0.0.1:1/none", host: "127.0.0.1", port: 1 };
  const answer = await invoke("root-version", { n: 8, calls: "leaf", ask: words(40) }, { headers: { accept: "text/event-stream" } });
  let run = "";
  for await (const event of sse(answer)) {
    if (event.event === "run.started") run = String(event.data["run"]);
    // Its functions are known by now: only what it ships meets the database that is away.
    if (event.event === "delta") useDatabase(away);
  }
  const kept = await runInDurableObject(bindings.RUNS.getByName(run), (_object: Run, { storage }) =>
    storage.sql.exec<{ event: string }>("SELECT event FROM usage_outbox").toArray(),
  );
  expect(kept).toHaveLength(8 + 2);
  for (let i = 0; i < 8; i += 1) {
    const child = bindings.RUNS.getByName(deriveId("run", run, `fanout#1/${i}/call#1`));
    expect((await runInDurableObject(child, (object: Run) => object.dump()))["usage_outbox"]).toEqual([]);
  }
  await abortAllDurableObjects();
  useDatabase(counting);
  const root = bindings.RUNS.getByName(run);
  const events_kept = kept.map((row) => JSON.parse(row.event) as UsageEvent);
  // Again, to a life that does not know yet that there is something to ship.
  expect(await root.childUsage(events_kept)).toBe(true);
  await runInDurableObject(root, (object: Run) => object.alarm());
  const agents = expected({ "root-version": 1, "leaf-version": 8 });
  expect(await wallOf(run, 9)).toEqual(agents);
  // A child that died before it heard that the root has it.
  expect(await root.childUsage(events_kept)).toBe(true);
  await runInDurableObject(root, async (object: Run, { storage }) => {
    expect(storage.sql.exec("SELECT 1 FROM usage_outbox").toArray()).toHaveLength(10);
    expect(await storage.getAlarm()).toBeLessThan(Date.now() + 10_000);
  });
  while ((await runInDurableObject(root, (object: Run) => object.dump()))["usage_outbox"]?.length !== 0) await scheduler.wait(20);
  expect(await wallOf(run, 9)).toEqual(agents);
});

test("a called function whose root is not there ships its own usage", async () => {
  const { version } = await deploy("orphan", "() => 1");
  const found = await request("GET", "/v1/functions", { key: a.all });
  const { functions } = await found.json<{ functions: { name: string; function: string }[] }>();
  const run = randomId("run", crypto.getRandomValues(new Uint8Array(16)));
  const nobody = { binding: "RUNS" as const, id: bindings.RUNS.idFromName("nobody").toString() };
  const spec = {
    run,
    identity: {
      tenant: a.tenant,
      project: a.project,
      key: "key_orphan",
      function: functions.find((f) => f.name === "orphan")?.function,
      function_name: "orphan",
      version,
      program: asId<"program">("run_nobody"),
      run: run,
      agent: "orphan",
      path_prefix: "call#1/",
      depth: 1,
      root: nobody,
    },
    code_hash: "orphan",
    config_hash: "orphan",
    config: { timeout_ms: 5_000, egress: [], isolation: "version" },
    input: "null",
    request: "orphan",
    parent: nobody,
  } as unknown as RunSpec;
  const object = bindings.RUNS.getByName(run);
  await object.start(spec);
  expect(await object.finished(a)).toMatchObject({ status: "done", output: 1 });
  expect(await wallOf(run, 1)).toEqual(["orphan"]);
});

test.each([1, 2, 3, 4])("everything dies at a random moment (seed %i): every run's usage arrives once", async (seed) => {
  let state = seed;
  const random = () => (state = (state * 48_271) % 0x7fffffff) / 0x7fffffff;
  const n = 10;
  const last_words = 30;
  const at = Math.floor(random() * n * last_words * 1.1);
  const headers = { "idempotency-key": `dies-${seed}` };
  const input = { n, calls: "branch", ask: words(last_words) };
  const run: RunId = deriveId("run", a.tenant, a.project, headers["idempotency-key"]);
  let seen = 0;
  try {
    for await (const event of sse(await invoke("root-version", input, { headers: { ...headers, accept: "text/event-stream" } }))) {
      if (event.event === "delta" && ++seen === at) await abortAllDurableObjects();
    }
  } catch {
    // The stream broke with its object.
  }
  // Beyond the last word: when all is said, and the usage is on its way.
  if (seen < at) await abortAllDurableObjects();
  expect((await events(await request("GET", `/v1/runs/${run}/events`, { key: a.all }))).at(-1)?.event).toBe("run.done");
  for (const id of [run, ...Array.from({ length: n }, (_, i) => deriveId("run", run, `fanout#1/${i}/call#1`))]) {
    await runInDurableObject(bindings.RUNS.getByName(id), (object: Run) => object.alarm());
  }
  expect(await wallOf(run, 1 + 2 * n)).toEqual(expected({ "root-version": 1, "branch-version": n, "leaf-version": n }));
  expect((await usageOf(run)).filter((row) => row.kind === "edge_request")).toHaveLength(1);
});
