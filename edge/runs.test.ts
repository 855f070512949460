/** Runs as a client meets them, from deploy to result, and after their object died. */
import { abortAllDurableObjects, runInDurableObject } from "cloudflare:test";
import { describe, expect, test } from "vitest";
import { deriveId } from "../schema/core/ids.ts";
import { withDatabase } from "./database.ts";
import type { Run } from "./objects/run.ts";
import {
  a,
  b,
  bindings,
  deploy,
  events,
  forgetCode,
  invoke,
  origin,
  output,
  peerState,
  problem,
  request,
  sse,
  type Problem,
  type RunBody,
  type SseEvent,
} from "./testing.ts";

const words = (count: number, more: object = {}) => JSON.stringify({ peer: { words: count, ...more } });
const get = async <T>(path: string, key = a.all): Promise<T> => (await (await request("GET", path, { key })).json()) as T;
const stream = (name: string, input: unknown, headers: Record<string, string> = {}) =>
  invoke(name, input, { headers: { accept: "text/event-stream", ...headers } });
const textOf = (all: SseEvent[]) =>
  all
    .filter((e) => e.event === "delta")
    .map((e) => e.data["text"])
    .join("");

describe("from deploy to result", () => {
  test("in one piece", async () => {
    await deploy("hello", "async (ctx) => ({ hello: ctx.input.name, run: ctx.run })");
    const answer = await invoke("hello", { name: "world" });
    const body = (await answer.json()) as RunBody;
    expect(answer.status).toBe(200);
    expect(answer.headers.get("location")).toBe(`/v1/runs/${body.run}`);
    expect(body).toMatchObject({ status: "done", output: { hello: "world", run: { id: body.run, function: "hello" } } });
  });

  test("the same code is the same version; another alias leaves `live` alone", async () => {
    const first = await deploy("versioned", "() => 1");
    expect(await deploy("versioned", "() => 1")).toEqual(first);
    await request("POST", "/v1/functions", { key: a.all, body: { name: "versioned", code: "export default () => 2;", alias: "next" } });
    expect(await output("versioned")).toBe(1);
    const next = await request("POST", "/v1/functions/versioned/invocations", { key: a.all, body: { input: null, version: "next" } });
    expect((await next.json<RunBody>()).output).toBe(2);
  });

  test("as an event stream, and again from any event on", async () => {
    await deploy(
      "talks",
      `async (ctx) => {
      ctx.log("before"); console.warn("from", "console", { x: 1 });
      const pieces = []; const answer = ctx.agent("poet").ai.stream(ctx.input);
      for await (const piece of answer) pieces.push(piece.text);
      await ctx.emit("half", { at: 1 });
      return { same: pieces.join("") === (await answer.result).text, text: (await answer.result).text };
    }`,
    );
    const all = await events(await stream("talks", words(12)));
    expect(all.map((e) => e.id)).toEqual(all.map((_, i) => i + 1));
    expect(all.map((e) => e.event).filter((type, i, types) => type !== types[i - 1])).toEqual([
      "run.started",
      "step",
      "delta",
      "usage",
      "step",
      "event",
      "run.done",
    ]);
    expect(all.at(-1)?.data).toMatchObject({ output: { same: true, text: textOf(all) } });
    expect(all.find((e) => e.event === "delta")?.data).toMatchObject({ agent: "poet", step: "ai#1" });
    const run = String(all[0]?.data["run"]);
    for (const from of [0, 3, all.length - 1, all.length]) {
      const rest = await events(await request("GET", `/v1/runs/${run}/events`, { key: a.all, headers: { "last-event-id": String(from) } }));
      expect(rest).toEqual(all.slice(from));
    }
    const logs = await get<{ lines: { level: string; text: string }[] }>(`/v1/runs/${run}/logs`);
    expect(logs.lines.map((line) => [line.level, line.text])).toEqual([
      ["info", "before"],
      ["warn", 'from console {"x":1}'],
    ]);
  });

  test("asynchronously", async () => {
    await deploy("later", "async (ctx) => (await ctx.ai.chat(ctx.input)).text");
    const answer = await invoke("later", words(4), { headers: { prefer: "respond-async" } });
    const { run } = (await answer.json()) as RunBody;
    expect([answer.status, answer.headers.get("location")]).toEqual([202, `/v1/runs/${run}`]);
    expect((await events(await request("GET", `/v1/runs/${run}/events`, { key: a.all }))).at(-1)?.event).toBe("run.done");
    expect(await get(`/v1/runs/${run}`)).toMatchObject({ status: "done", finished_at: expect.stringMatching(/Z$/) });
  });

  test("cancelled, down to the model", async () => {
    await deploy("slow", "async (ctx) => (await ctx.ai.chat(ctx.input)).text");
    const answer = await stream("slow", words(2_000, { interval_ms: 5 }));
    const seen: SseEvent[] = [];
    for await (const event of sse(answer)) {
      seen.push(event);
      if (event.event === "delta" && seen.filter((e) => e.event === "delta").length === 2) {
        const cancelled = await request("POST", `/v1/runs/${String(seen[0]?.data["run"])}/cancel`, { key: a.all });
        expect(await cancelled.json()).toMatchObject({ status: "cancelled", error: { code: "cancelled" } });
      }
    }
    expect(seen.at(-1)).toMatchObject({ event: "run.failed", data: { error: { code: "cancelled" } } });
    expect(Object.values((await peerState()).calls).some((call) => call.cancelled !== null)).toBe(true);
  });

  test("asked for after its cancel: the status sent is the problem's own", async () => {
    await deploy("waits-long", "() => new Promise((resolve) => setTimeout(resolve, 10_000))");
    const headers = { "idempotency-key": crypto.randomUUID() };
    const { run } = (await (await invoke("waits-long", null, { headers: { ...headers, prefer: "respond-async" } })).json()) as RunBody;
    expect((await request("POST", `/v1/runs/${run}/cancel`, { key: a.all })).status).toBe(200);
    const answer = await invoke("waits-long", null, { headers });
    expect([answer.status, await problem(answer)]).toEqual([499, expect.objectContaining({ status: 499, code: "cancelled" })]);
  });

  test("what a model refuses is the run's error, unless the function catches it", async () => {
    await deploy(
      "refused",
      "async (ctx) => { try { return (await ctx.ai.chat(ctx.input.ask)).text; } catch (error) { if (ctx.input.catch) return error.code; throw error; } }",
    );
    const ask = words(1, { refuse: { code: "model_not_found", detail: "no such model" } });
    expect(await problem(invoke("refused", { ask }))).toMatchObject({ status: 404, code: "model_not_found" });
    expect(await output("refused", { ask, catch: true })).toBe("model_not_found");
  });
});

describe("one key, one run", () => {
  const keyed = (name: string, input: unknown, key: string, headers: Record<string, string> = {}) =>
    invoke(name, input, { headers: { "idempotency-key": key, ...headers } });

  test("the same request again is the same run and one bill; another is refused", async () => {
    await deploy("counted", "async (ctx) => ({ n: (globalThis.n = (globalThis.n ?? 0) + 1), input: ctx.input })");
    const first = (await (await keyed("counted", { x: 1 }, "k-1")).json()) as RunBody;
    const again = (await (await keyed("counted", { x: 1 }, "k-1")).json()) as RunBody;
    expect(again).toEqual(first);
    expect(await events(await keyed("counted", { x: 1 }, "k-1", { accept: "text/event-stream" }))).toHaveLength(2);
    expect((await keyed("counted", { x: 1 }, "k-1", { prefer: "respond-async" })).status).toBe(202);
    expect(await problem(keyed("counted", { x: 2 }, "k-1"))).toMatchObject({ status: 422, code: "idempotency_mismatch" });
    await deploy("counted-too", "() => 1");
    expect(await problem(keyed("counted-too", { x: 1 }, "k-1"))).toMatchObject({ status: 422 });
    await deploy("counted", "async (ctx) => ({ n: 100, input: ctx.input })", { key: b.all });
    const foreign = (await (await invoke("counted", { x: 1 }, { key: b.all, headers: { "idempotency-key": "k-1" } })).json()) as RunBody;
    expect(foreign.run).not.toBe(first.run);

    await runInDurableObject(bindings.RUNS.getByName(first.run), (object: Run) => object.alarm());
    const bills = await withDatabase(
      bindings.DB,
      (sql) => sql`select kind, quantity::text from usage where run = ${first.run} and kind = 'edge_request'`,
    );
    expect(bills.map((row) => ({ ...row }))).toEqual([{ kind: "edge_request", quantity: "1" }]);
  });

  test("while it is going, 409; both at once, one run", async () => {
    await deploy("long", "async (ctx) => (await ctx.ai.chat(ctx.input)).text");
    const first = stream("long", words(60, { interval_ms: 5 }), { "idempotency-key": "k-2" });
    const reading = sse(await first);
    await reading.next();
    const busy = await keyed("long", words(60, { interval_ms: 5 }), "k-2");
    expect([busy.status, (await busy.json<Problem>()).code]).toEqual([409, "idempotency_in_flight"]);
    for await (const _ of reading);
    expect((await keyed("long", words(60, { interval_ms: 5 }), "k-2")).status).toBe(200);
    const both = await Promise.all(
      [1, 2, 3].map(() => keyed("long", words(3), "k-3", { prefer: "respond-async" }).then((r) => r.json<RunBody>())),
    );
    expect(new Set(both.map((r) => r.run)).size).toBe(1);
  });

  /** Of the run's own object only: the door's database stays. */
  const databaseOf = (run: string, away: boolean, port = 1) =>
    runInDurableObject(bindings.RUNS.getByName(run), (object: Run) => {
      const holder = object as unknown as { env: object };
      const DB = { connectionString: `postgres://nobody@127.0.0.1:${port}/none`, host: "127.0.0.1", port };
      holder.env = away ? { ...bindings, DB } : bindings;
    });
  const usageOf = (run: string) =>
    withDatabase(bindings.DB, (sql) => sql<{ kind: string }[]>`select kind from usage where run = ${run} order by kind`);

  test.each(["version", "run"])("a run whose code could not be loaded is not kept under its key (isolation: %s)", async (isolation) => {
    const name = `unloaded-${isolation}`;
    await deploy(name, "async (ctx) => ctx.step('count', () => (globalThis.n = (globalThis.n ?? 0) + 1))", { config: { isolation } });
    const key = `k-unloaded-${isolation}`;
    const run = deriveId("run", a.tenant, a.project, key);
    await databaseOf(run, true);
    const failed = await keyed(name, 1, key);
    expect([failed.status, await problem(failed)]).toEqual([
      503,
      expect.objectContaining({ code: "database_unavailable", retryable: true, run }),
    ]);
    // Seen as it is, and in no bill.
    expect(await get(`/v1/runs/${run}`)).toMatchObject({ status: "failed", error: { code: "database_unavailable" } });
    expect((await events(await request("GET", `/v1/runs/${run}/events`, { key: a.all }))).map((e) => e.event)).toEqual([
      "run.started",
      "run.failed",
    ]);
    await runInDurableObject(bindings.RUNS.getByName(run), (object: Run) => object.alarm());
    expect(await usageOf(run)).toEqual([]);
    // Still away: it is tried again, and fails again.
    expect((await keyed(name, 1, key)).status).toBe(503);

    await databaseOf(run, false);
    const both = await Promise.all([keyed(name, 1, key, { prefer: "respond-async" }), keyed(name, 1, key, { prefer: "respond-async" })]);
    expect(both.map((answer) => answer.status)).toEqual([202, 202]);
    const all = await events(await request("GET", `/v1/runs/${run}/events`, { key: a.all }));
    expect(all.map((e) => e.event)).toEqual(["run.started", "step", "step", "run.done"]);
    for (const answer of [await keyed(name, 1, key), await keyed(name, 1, key)])
      expect(await answer.json()).toMatchObject({ run, output: 1 });
    expect(await problem(keyed(name, 2, key))).toMatchObject({ status: 422, code: "idempotency_mismatch" });
    await runInDurableObject(bindings.RUNS.getByName(run), (object: Run) => object.alarm());
    expect((await usageOf(run)).map((row) => row.kind)).toEqual(["edge_request", "edge_wall"]);
  });

  test("one that cannot load the code spoils the isolate for no other that waits for it", async () => {
    await deploy("spoilt", "(ctx) => ctx.input");
    const start = async (key: string) => {
      expect((await keyed("spoilt", key, key, { prefer: "respond-async" })).status).toBe(202);
      return deriveId("run", a.tenant, a.project, key);
    };
    const endOf = async (run: string) => (await events(await request("GET", `/v1/runs/${run}/events`, { key: a.all }))).at(-1);
    await databaseOf(deriveId("run", a.tenant, a.project, "k-spoils"), true, origin.silent_port);
    const spoiler = await start("k-spoils");
    while ((await (await fetch(`${origin.allowed}/held`)).text()) === "0") await scheduler.wait(5);
    const others = [await start("k-waits-1"), await start("k-waits-2")];
    await fetch(`${origin.allowed}/hang-up`);
    expect(await endOf(spoiler)).toMatchObject({ event: "run.failed", data: { error: { code: "database_unavailable" } } });
    expect((await Promise.all(others.map(endOf))).map((event) => event?.data["output"])).toEqual(["k-waits-1", "k-waits-2"]);
  });

  test("a failure after its code began is kept, one of ours too", async () => {
    await deploy(
      "began",
      "async (ctx) => { ctx.log(String(globalThis.begun = (globalThis.begun ?? 0) + 1)); await ctx.ai.chat(ctx.input); }",
    );
    const ask = words(1, { refuse: { code: "no_capacity" } });
    const first = await problem(keyed("began", ask, "k-began"));
    expect(first).toMatchObject({ status: 503, code: "no_capacity" });
    expect(await problem(keyed("began", ask, "k-began"))).toMatchObject({ code: "no_capacity", run: first.run });
    const { lines } = await get<{ lines: { text: string }[] }>(`/v1/runs/${first.run}/logs`);
    expect(lines.map((line) => line.text)).toEqual(["1"]);
  });

  test("a run that began, died, and cannot be loaded again keeps its failure", async () => {
    await deploy("began-before", "async (ctx) => (await ctx.ai.chat(ctx.input)).text", { config: { isolation: "run" } });
    const ask = words(1, { hang: true });
    const answer = await stream("began-before", ask, { "idempotency-key": "k-before" });
    const run = deriveId("run", a.tenant, a.project, "k-before");
    try {
      for await (const event of sse(answer)) if (event.event === "step") await abortAllDurableObjects();
    } catch {
      // The stream broke with its object.
    }
    await databaseOf(run, true);
    forgetCode();
    expect((await problem(keyed("began-before", ask, "k-before"))).code).toBe("idempotency_in_flight");
    expect((await events(await request("GET", `/v1/runs/${run}/events`, { key: a.all }))).at(-1)).toMatchObject({
      event: "run.failed",
      data: { error: { code: "database_unavailable" } },
    });
    await databaseOf(run, false);
    expect(await problem(keyed("began-before", ask, "k-before"))).toMatchObject({ code: "database_unavailable" });
    await runInDurableObject(bindings.RUNS.getByName(run), (object: Run) => object.alarm());
    expect((await usageOf(run)).map((row) => row.kind)).toEqual(["edge_request", "edge_wall"]);
  });

  test("a key that is no key", async () => {
    await deploy("plain", "() => 1");
    expect(await problem(keyed("plain", null, "x".repeat(300)))).toMatchObject({ status: 400, param: "Idempotency-Key" });
  });
});

describe("a run whose object dies", () => {
  test("goes on: steps are not done twice, events have no gap and no repeat", async () => {
    await deploy(
      "survives",
      `async (ctx) => {
      const n = await ctx.step("count", () => (globalThis.counted = (globalThis.counted ?? 0) + 1));
      ctx.log("counted " + n);
      await ctx.memory.set("seen", n);
      await ctx.emit("counted", n);
      const first = await ctx.ai.chat(ctx.input.short);
      const second = await ctx.ai.chat(ctx.input.long);
      return { n, first: first.text, second: second.text, seen: await ctx.memory.get("seen"), counted: globalThis.counted };
    }`,
    );
    const answer = await stream("survives", { short: words(3), long: words(80, { interval_ms: 5 }) });
    const before: SseEvent[] = [];
    try {
      for await (const event of sse(answer)) {
        before.push(event);
        if (event.event === "delta" && event.data["step"] === "ai#2" && before.length > 12) await abortAllDurableObjects();
      }
    } catch {
      // The stream broke with its object.
    }
    const run = String(before[0]?.data["run"]);
    const last = before.at(-1)?.id ?? 0;
    const after = await events(await request("GET", `/v1/runs/${run}/events`, { key: a.all, headers: { "last-event-id": String(last) } }));
    const all = [...before, ...after];
    expect(all.map((e) => e.id)).toEqual(all.map((_, i) => i + 1));
    const result = all.at(-1)?.data["output"] as { n: number; first: string; second: string; seen: number; counted: number };
    expect(result.n).toBe(result.counted);
    expect(result.seen).toBe(result.n);
    expect(textOf(all)).toBe(result.first + result.second);
    expect(all.filter((e) => e.event === "event")).toHaveLength(1);
    expect(all.filter((e) => e.event === "step" && e.data["path"] === "count").map((e) => e.data["status"])).toEqual(["started", "done"]);
    expect((await get<{ lines: unknown[] }>(`/v1/runs/${run}/logs`)).lines).toHaveLength(1);
    const long = Object.values((await peerState()).calls).filter((call) => call.frames > 80);
    expect(long.every((call) => call.runs === 1)).toBe(true);
  });

  test("a step that returns nothing came to null, the first time and on replay", async () => {
    await deploy(
      "returns-nothing",
      `async (ctx) => {
      const came_to = [await ctx.step("nothing", () => { globalThis.nothing = (globalThis.nothing ?? 0) + 1; }), await ctx.step("null", () => null)];
      await ctx.ai.chat(ctx.input);
      return { came_to, times: globalThis.nothing };
    }`,
    );
    const answer = await stream("returns-nothing", words(60, { interval_ms: 5 }), { "idempotency-key": "k-nothing" });
    try {
      for await (const event of sse(answer)) if (event.event === "delta") await abortAllDurableObjects();
    } catch {
      // The stream broke with its object.
    }
    const run = deriveId("run", a.tenant, a.project, "k-nothing");
    const rest = await events(await request("GET", `/v1/runs/${run}/events`, { key: a.all }));
    expect(rest.at(-1)).toMatchObject({ event: "run.done", data: { output: { came_to: [null, null], times: 1 } } });
  });

  test("asks for something else on replay: nondeterministic_step", async () => {
    await deploy(
      "fickle",
      `async (ctx) => {
      globalThis.times = (globalThis.times ?? 0) + 1;
      if (globalThis.times === 1) { await ctx.ai.chat(ctx.input.a); await ctx.ai.chat(ctx.input.hang); }
      return (await ctx.ai.chat(ctx.input.b)).text;
    }`,
    );
    const answer = await stream("fickle", { a: words(2), b: words(3), hang: words(1, { hang: true }) });
    let run = "";
    try {
      for await (const event of sse(answer)) {
        if (event.event === "run.started") run = String(event.data["run"]);
        if (event.event === "step" && event.data["path"] === "ai#2") await abortAllDurableObjects();
      }
    } catch {
      // as above
    }
    const rest = await events(await request("GET", `/v1/runs/${run}/events`, { key: a.all }));
    expect(rest.at(-1)).toMatchObject({ event: "run.failed", data: { error: { code: "nondeterministic_step" } } });
  });

  test("a replayed failure is the same failure", async () => {
    await deploy(
      "caught",
      `async (ctx) => {
      let code = "none"; try { await ctx.ai.chat(ctx.input.bad); } catch (error) { code = error.code; }
      const more = await ctx.ai.chat(ctx.input.long);
      return { code, words: more.text.trim().split(" ").length };
    }`,
    );
    const answer = await stream("caught", { bad: words(1, { refuse: { code: "queue_full" } }), long: words(60, { interval_ms: 5 }) });
    let run = "";
    try {
      for await (const event of sse(answer)) {
        if (event.event === "run.started") run = String(event.data["run"]);
        if (event.event === "delta" && event.data["step"] === "ai#2") await abortAllDurableObjects();
      }
    } catch {
      // as above
    }
    expect((await events(await request("GET", `/v1/runs/${run}/events`, { key: a.all }))).at(-1)?.data["output"]).toEqual({
      code: "queue_full",
      words: 60,
    });
  });
});

test("the rows that a run leaves are those of its format", async () => {
  await deploy("stored", "async (ctx) => { ctx.log('x'); return (await ctx.ai.chat(ctx.input)).text; }");
  const { run } = (await (await invoke("stored", words(2))).json()) as RunBody;
  const rows = await runInDurableObject(bindings.RUNS.getByName(run), (object: Run) => object.dump());
  expect(rows["meta"]).toContainEqual({ key: "format", value: "2" });
  expect(Object.keys(rows)).toEqual([
    "meta",
    "run",
    "run_input",
    "run_outcome",
    "events",
    "logs",
    "usage_outbox",
    "parent_untold",
    "execution_steps",
    "execution_calls",
    "execution_frames",
    "execution_journal",
  ]);
  expect(rows["execution_frames"]).toEqual([]);
});

test("a run stored in format 1 opens, over or not", async () => {
  await deploy("old", "async (ctx) => [ctx.input, (await ctx.ai.chat(ctx.input.ask)).text]");
  const ask = JSON.parse(words(200, { interval_ms: 5 })) as object;
  const over = (await (await invoke("old", { ask: words(2) })).json()) as RunBody;
  const going = (await (await invoke("old", { ask: JSON.stringify(ask) }, { headers: { prefer: "respond-async" } })).json()) as RunBody;
  for (const { run } of [over, going]) {
    await runInDurableObject(bindings.RUNS.getByName(run), (_object, { storage }) => {
      const { json: input } = storage.sql.exec<{ json: string }>("SELECT json FROM run_input").one();
      const { spec } = storage.sql.exec<{ spec: string }>("SELECT spec FROM run").one();
      storage.sql.exec("ALTER TABLE run ADD COLUMN outcome TEXT");
      const of_before = JSON.stringify({ ...(JSON.parse(spec) as object), input });
      storage.sql.exec("UPDATE run SET spec = ?, outcome = (SELECT json FROM run_outcome)", of_before);
      storage.sql.exec("DROP TABLE run_input; DROP TABLE run_outcome; UPDATE meta SET value = '1' WHERE key = 'format'");
    });
  }
  await abortAllDurableObjects();
  const { status, output: found } = await get<RunBody>(`/v1/runs/${over.run}`);
  expect([status, found]).toEqual(["done", over.output]);
  const all = await events(await request("GET", `/v1/runs/${going.run}/events`, { key: a.all }));
  expect(all.at(-1)).toMatchObject({ event: "run.done", data: { output: [{ ask: JSON.stringify(ask) }, textOf(all)] } });
  const rows = await runInDurableObject(bindings.RUNS.getByName(over.run), (object: Run) => object.dump());
  expect(rows["meta"]).toContainEqual({ key: "format", value: "2" });
});

describe("as much as a row holds", () => {
  test("an input and a result of the limit, in text that grows when it is encoded", async () => {
    await deploy("echoes", "(ctx) => ctx.input");
    await deploy("passes", "(ctx) => ctx.call('echoes', ctx.input)");
    // In turn: twice as long in JSON; three bytes a character; the longest body there may be.
    for (const text of ['"'.repeat(500_000), "漢".repeat(349_000), "x".repeat(1_048_500)]) {
      expect((await output<string>("echoes", text)) === text).toBe(true);
    }
    expect((await output<string>("passes", '"'.repeat(500_000))).length).toBe(500_000);
  });

  test("a step's value is measured in bytes, not in characters", async () => {
    await deploy(
      "remembers",
      "async (ctx) => { try { return (await ctx.step('s', () => '漢'.repeat(ctx.input))).length; } catch (error) { return error.code; } }",
    );
    expect(await output("remembers", 349_000)).toBe(349_000);
    for (const chars of [349_600, 900_000])
      expect(["result_not_serializable", "invalid_request"]).toContain(await output("remembers", chars));
  });

  test("a prompt of more bytes than a request may have is refused, and the one beside it is answered", async () => {
    await deploy(
      "prompts",
      `async (ctx) => (await Promise.allSettled([ctx.ai.chat(ctx.input), ctx.ai.chat("漢".repeat(900_000))])).map((r) => r.value?.text ?? r.reason.code)`,
    );
    expect(await output("prompts", words(2))).toEqual(["w1 w2 ", "invalid_request"]);
  });

  test("an input that is longer as it is kept than as it came is refused", async () => {
    await deploy("counts", "(ctx) => ctx.input.length");
    const body = `{"input":[${"1e20,".repeat(100_000)}1]}`;
    const answer = await request("POST", "/v1/functions/counts/invocations", { key: a.all, body });
    expect(await problem(answer)).toMatchObject({ status: 413, code: "body_too_large" });
  });
});

test("a model call however deep in its program is made; its place is told by a hash beyond 512 characters", async () => {
  const deep = (levels: number, then: string) =>
    `async (ctx) => { const deep = (c, d) => d === 0 ? ${then} : c.step("n".repeat(64), (cc) => deep(cc, d - 1)); return deep(ctx, ${levels}); }`;
  await deploy("deep-called", deep(4, `c.ai.chat(ctx.input).then((r) => r.text)`));
  await deploy("deep", deep(5, `c.call("deep-called", ctx.input)`));
  const all = await events(await stream("deep", words(2)));
  expect(all.at(-1)).toMatchObject({ event: "run.done", data: { output: "w1 w2 " } });
  const step = String(all.find((e) => e.event === "delta")?.data["step"]);
  expect(step).toMatch(/^~[0-9a-f]{32}\/(n{64}\/){4}ai#1$/);
});

test("a stream of events ends when its reader's key is revoked; the run goes on", async () => {
  await deploy("long", "async (ctx) => (await ctx.ai.chat(ctx.input)).usage.completion_tokens");
  const made = await (
    await request("POST", "/v1/keys", { key: a.all, body: { name: "reader", scopes: ["invoke"] } })
  ).json<{
    key: string;
    secret: string;
  }>();
  const owner = await stream("long", words(150, { interval_ms: 40 }));
  let ended: string[] | undefined;
  let last: string | undefined;
  let reading: Promise<void> | undefined;
  for await (const event of sse(owner)) {
    last = event.event;
    if (event.event === "run.started") {
      const read = await request("GET", `/v1/runs/${String(event.data["run"])}/events`, { key: made.secret });
      reading = events(read).then((all) => void (ended = all.map((one) => one.event)));
      await request("DELETE", `/v1/keys/${made.key}`, { key: a.all });
    }
    if (event.event === "run.done") expect(ended).toBeDefined();
  }
  await reading;
  expect(last).toBe("run.done");
  expect(ended).not.toContain("run.done");
});
