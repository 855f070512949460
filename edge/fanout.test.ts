/** Called functions and fan-out: over one link, within the platform's limits on an object, in any depth and through any death. */
import { abortAllDurableObjects, runInDurableObject } from "cloudflare:test";
import { beforeAll, expect, test } from "vitest";
import { PENDING_CONNECTIONS_MAX } from "../schema/core/wire/limits.ts";
import type { Run } from "./objects/run.ts";
import { a, bindings, deploy, events, invoke, output, peerState, problem, request, sse, type SseEvent } from "./testing.ts";

const words = (count: number, more: object = {}) => JSON.stringify({ peer: { words: count, ...more } });
const stream = (name: string, input: unknown) => invoke(name, input, { headers: { accept: "text/event-stream" } });
type Peaks = { workers: number; connections: number };
const peaks = (run: string): Promise<Peaks> => runInDurableObject(bindings.RUNS.getByName(run), (object: Run) => object.peaks());

beforeAll(async () => {
  await deploy(
    "specialist",
    "async (ctx) => { const answer = await ctx.ai.chat(ctx.input.ask); return { i: ctx.input.i, words: answer.usage.completion_tokens, run: ctx.run.id }; }",
  );
  await deploy("fans", "async (ctx) => ctx.fanout(ctx.input.asks, (ask, branch, i) => branch.call('specialist', { ask, i }))");
});

test("100 functions at once: all complete, over one link, and no object exceeds the platform's limits", async () => {
  const links = (await peerState()).connections_total;
  const asks = Array.from({ length: 100 }, (_, i) => words(3, { interval_ms: 1 }).replace("}}", `,"queued":${i}}}`));
  const all = await events(await stream("fans", { asks }));
  const last = all.at(-1);
  expect(last?.event).toBe("run.done");
  const outputs = last?.data["output"] as { i: number; words: number }[];
  expect(outputs.map((o) => [o.i, o.words])).toEqual(asks.map((_, i) => [i, 3]));
  expect((await peerState()).connections_total - links).toBe(1);

  // All of it is in the root's log, each with its agent and its place.
  const deltas = all.filter((e) => e.event === "delta");
  expect(new Set(deltas.map((e) => e.data["step"])).size).toBe(100);
  expect(deltas.every((e) => e.data["agent"] === "specialist")).toBe(true);
  expect(all.filter((e) => e.event === "usage")).toHaveLength(100);

  const root = await peaks(String(all[0]?.data["run"]));
  // The root's own guest: what it calls runs in objects of their own.
  expect(root.workers).toBe(1);
  expect(root.connections).toBeLessThanOrEqual(PENDING_CONNECTIONS_MAX);
  // The limits were met, not merely never reached.
  expect(root.connections).toBe(PENDING_CONNECTIONS_MAX - 1);
});

test("250 called functions at once, and a bystander: nobody is refused for a full database", async () => {
  await deploy("tiny", "async (ctx) => ctx.input.i");
  await deploy("crowd", "async (ctx) => ctx.fanout([...Array(250).keys()], (i, branch) => branch.call('tiny', { i }))");
  const crowd = output("crowd");
  const crowd_state = { over: false };
  void crowd.finally(() => (crowd_state.over = true)).catch(() => undefined);
  const statuses = new Set<number>();
  do statuses.add((await request("GET", "/v1/functions", { key: a.all })).status);
  while (!crowd_state.over);
  expect(await crowd).toEqual(Array.from({ length: 250 }, (_, i) => i));
  expect([...statuses]).toEqual([200]);
});

test("what a function does with its memory at once keeps to the limit on connections", async () => {
  await deploy(
    "remembers",
    "async (ctx) => (await ctx.fanout([...Array(40).keys()], (i, branch) => branch.memory.set('k' + i, i))).length",
  );
  const answer = await invoke("remembers");
  const { run, output: count } = await answer.json<{ run: string; output: number }>();
  expect(count).toBe(40);
  expect((await peaks(run)).connections).toBe(PENDING_CONNECTIONS_MAX - 1);
});

test("100 model calls of one function at once", async () => {
  await deploy(
    "wide",
    "async (ctx) => (await ctx.fanout([...Array(100).keys()], (i, branch) => branch.ai.chat(ctx.input))).map((r) => r.usage.completion_tokens)",
  );
  expect(await output("wide", words(2))).toEqual(Array.from({ length: 100 }, () => 2));
});

test("a fan-out has the concurrency it asks for, and its first failure", async () => {
  await deploy(
    "narrow",
    `async (ctx) => {
    let running = 0, most = 0;
    const done = await ctx.fanout([1, 2, 3, 4, 5, 6], async (i) => { most = Math.max(most, ++running); await new Promise((r) => setTimeout(r, 5)); running--; return i * i; }, { concurrency: 2 });
    let failed = ""; try { await ctx.fanout([1, 2, 3], (i) => { if (i > 1) throw new Error("no " + i); }); } catch (error) { failed = error.message; }
    return { done, most, failed };
  }`,
  );
  expect(await output("narrow")).toEqual({ done: [1, 4, 9, 16, 25, 36], most: 2, failed: "no 2" });
});

test("a called function's failure is its caller's to catch, with its code", async () => {
  await deploy("fails", "() => { throw new Error('inside'); }");
  await deploy(
    "calls",
    "async (ctx) => { try { return await ctx.call(ctx.input); } catch (error) { return { code: error.code, message: error.message }; } }",
  );
  expect(await output("calls", "fails")).toMatchObject({ code: "function_threw", message: expect.stringContaining("inside") });
  expect(await output("calls", "nobody")).toMatchObject({ code: "function_not_found" });
});

test("calls go only so deep", async () => {
  await deploy("recurses", "async (ctx) => ctx.call('recurses', ctx.input + 1)");
  expect(await problem(invoke("recurses", 0))).toMatchObject({ status: 429, code: "too_many_steps" });
});

test("a called function ends with its caller", async () => {
  await deploy("hangs", "async (ctx) => (await ctx.ai.chat(ctx.input)).text");
  await deploy("waits", "async (ctx) => ctx.call('hangs', ctx.input)");
  const answer = await stream("waits", words(1, { hang: true }));
  const seen: SseEvent[] = [];
  for await (const event of sse(answer)) {
    seen.push(event);
    if (event.event === "step" && String(event.data["path"]).endsWith("ai#1"))
      await request("POST", `/v1/runs/${String(seen[0]?.data["run"])}/cancel`, { key: a.all });
  }
  expect(seen.at(-1)).toMatchObject({ event: "run.failed", data: { error: { code: "cancelled" } } });
});

test("everything dies in mid-fan-out: the run goes on to the same end", async () => {
  const asks = Array.from({ length: 12 }, (_, i) => words(20 + i, { interval_ms: 5 }));
  const seen: SseEvent[] = [];
  try {
    for await (const event of sse(await stream("fans", { asks }))) {
      seen.push(event);
      if (seen.filter((e) => e.event === "delta").length === 30) await abortAllDurableObjects();
    }
  } catch {
    // The stream broke with its object.
  }
  const run = String(seen[0]?.data["run"]);
  const rest = await events(
    await request("GET", `/v1/runs/${run}/events`, { key: a.all, headers: { "last-event-id": String(seen.at(-1)?.id) } }),
  );
  const all = [...seen, ...rest];
  expect(all.map((e) => e.id)).toEqual(all.map((_, i) => i + 1));
  const outputs = all.at(-1)?.data["output"] as { words: number }[];
  expect(outputs.map((o) => o.words)).toEqual(asks.map((_, i) => 20 + i));
  for (let i = 0; i < 12; i++) {
    const text = all
      .filter((e) => e.event === "delta" && e.data["step"] === `fanout#1/${i}/call#1/ai#1`)
      .map((e) => e.data["text"])
      .join("");
    expect(text.trim().split(" ")).toHaveLength(20 + i);
  }
});
