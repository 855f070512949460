/** Called functions end with their caller, also where the caller's object died in between and knows them only from its rows. */
import { abortAllDurableObjects, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { beforeEach, describe, expect, test } from "vitest";
import { deriveId } from "../../schema/core/ids.ts";
import { until } from "../../test/support/until.ts";
import type { HostAddress } from "../runtime/execution.ts";
import { a, bindings, deploy, invoke, request, type RunBody } from "../testing.ts";
import type { Run } from "./run.ts";

const WIDTH = 3;
/** Anew for each test: an isolate in which a timer runs does not outlive the object that runs it. */
beforeEach(async () => {
  // It asks nothing of anybody: so nothing wakes its caller.
  await deploy("endless", `() => new Promise((resolve) => setTimeout(resolve, 60_000, "${crypto.randomUUID()}"))`);
  await deploy("passes-on", "(ctx) => ctx.call('endless', 1)");
  await deploy("fans-out", `(ctx) => ctx.fanout([...Array(${WIDTH}).keys()], (i, c) => c.call("passes-on", i))`);
  await deploy(
    "fails-anew",
    "async (ctx) => { if (await ctx.memory.get('again')) throw new Error('anew'); await ctx.call('endless', 1); }",
  );
});

const objectOf = (run: string) => bindings.RUNS.getByName(run);
const began = async (name: string): Promise<string> => {
  const answer = await invoke(name, null, { headers: { prefer: "respond-async" } });
  return (await answer.json<RunBody>()).run;
};
/** Read from the row: to ask the run how it is would set it going. */
const statusOf = (run: string): Promise<string | undefined> =>
  runInDurableObject(objectOf(run), (_object: Run, { storage }) => {
    const there = storage.sql.exec("SELECT 1 FROM sqlite_master WHERE name = 'run'").toArray().length > 0;
    return there ? storage.sql.exec<{ status: string }>("SELECT status FROM run").one().status : undefined;
  });
const allAre = (runs: readonly string[], status: string) =>
  until(`${status}: ${runs.join(", ")}`, async () => (await Promise.all(runs.map(statusOf))).every((each) => each === status));

describe("a caller whose life ended", () => {
  test("and that is cancelled: what the earlier life called ends, down to what that called", async () => {
    const root = await began("fans-out");
    const called = [...Array(WIDTH).keys()].map((i) => deriveId("run", root, `fanout#1/${i}/call#1`));
    const leaves = [...Array(WIDTH).keys()].map((i) => deriveId("run", root, `fanout#1/${i}/call#1/call#1`));
    await allAre(leaves, "running");
    await abortAllDurableObjects();
    const answer = await request("POST", `/v1/runs/${root}/cancel`, { key: a.all });
    expect(await answer.json()).toMatchObject({ status: "cancelled" });
    await allAre([...called, ...leaves], "cancelled");
  });

  test("and that fails on replay before it comes to its call: the call ends", async () => {
    const root = await began("fails-anew");
    const called = deriveId("run", root, "call#1");
    await allAre([called], "running");
    await abortAllDurableObjects();
    await runInDurableObject(objectOf(root), (_object, { storage }) => {
      // What a function that is not a function of its input does: the memory of the first time is not what it sees now.
      storage.sql.exec("UPDATE execution_steps SET value = '{\"value\":1}' WHERE path = 'memory#1'");
    });
    expect(await (await request("GET", `/v1/runs/${root}`, { key: a.all })).json()).toMatchObject({ status: "running" });
    await allAre([root], "failed");
    await allAre([called], "cancelled");
  });

  test("and that nobody told of: a called run's alarm finds its caller over", async () => {
    const root = await began("passes-on");
    const called = deriveId("run", root, "call#1");
    await allAre([called], "running");
    expect(await runDurableObjectAlarm(objectOf(called))).toBe(true);
    expect(await statusOf(called)).toBe("running"); // its caller goes on
    await runInDurableObject(objectOf(root), (_object, { storage }) => {
      // As if its end were stored and its life over before anybody was told.
      storage.sql.exec("INSERT INTO run_outcome VALUES (1, ?)", JSON.stringify({ status: "cancelled", error: { code: "cancelled" } }));
    });
    expect(await statusOf(called)).toBe("running");
    expect(await runDurableObjectAlarm(objectOf(called))).toBe(true);
    await allAre([called], "cancelled");
  });
});

test("a session says which of its programs goes on", async () => {
  const answer = await request("POST", "/v1/sessions", { key: a.all, body: { function: "endless" } });
  const { session } = await answer.json<{ session: string }>();
  const stub = bindings.SESSIONS.getByName(`${a.tenant}/${session}`);
  expect(await stub.executes(`${session}/t1`)).toBe(false);
  await runInDurableObject(stub, (_object, { storage }) => {
    storage.sql.exec(
      `INSERT INTO session_turns (number, turn, message, text, caller, input, state, attempts, started_at_ms, deadline_at_ms, cancel_reason)
       VALUES (1, 't1', 'm', '', '{}', 'null', 'running', 1, 0, ?, 'as asked')`,
      Date.now() + 60_000,
    );
  });
  expect([await stub.executes(`${session}/t1`), await stub.executes(`${session}/t0`)]).toEqual([true, false]);

  // A turn that was asked to stop as its object died is ended before it is executed again: what it called ends too.
  const host: HostAddress = { binding: "SESSIONS", id: stub.id.toString() };
  const program = `${session}/t1`;
  const called = deriveId("run", program, "call#1");
  const own = await began("endless");
  const spec = await runInDurableObject(
    objectOf(own),
    (_object, { storage }) => storage.sql.exec<{ spec: string }>("SELECT spec FROM run").one().spec,
  );
  await request("POST", `/v1/runs/${own}/cancel`, { key: a.all });
  const like = JSON.parse(spec) as Parameters<Run["start"]>[0];
  const identity = { ...like.identity, program: program as typeof like.identity.program, path_prefix: "call#1/", depth: 1, root: host };
  await objectOf(called).start({ ...like, run: called, input: "null", identity, parent: host });
  await runInDurableObject(stub, (_object, { storage }) => {
    storage.sql.exec("INSERT INTO execution_steps VALUES (?, 'call#1', 'asked', 'started', NULL, NULL)", program);
  });
  await abortAllDurableObjects();
  const again = bindings.SESSIONS.getByName(`${a.tenant}/${session}`);
  expect(await again.executes(program)).toBe(false);
  await allAre([called], "cancelled");
});
