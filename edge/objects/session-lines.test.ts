/** What a session's turns log: kept with everything else that they did, served to the author, never to the session's readers. */
import { abortAllDurableObjects, evictDurableObject, runInDurableObject } from "cloudflare:test";
import { expect, test } from "vitest";
import { LOG_LINES_MAX } from "../../schema/core/wire/limits.ts";
import { sessionLogList } from "../../schema/core/wire/http.ts";
import { openSession } from "../session.test-support.ts";
import { a, b, bindings, deploy, problem, request } from "../testing.ts";
import type { AgentSession } from "./agent-session.ts";
import { importSession } from "./session-export.ts";
import fixture from "./session-fixture-1.json";
import { SessionLines } from "./session-lines.ts";
import { LINES_PAGE_MAX } from "./page.ts";

const TALK = `async (ctx) => {
  ctx.log("heard " + ctx.input.message);
  ctx.log.warn("careful");
  await ctx.emit("between", null);
  console.error("a", { number: 1 });
  if (ctx.input.message === "throw") throw new Error("as asked");
  return "said";
}`;
const texts = (lines: readonly { turn: string; level: string; text: string }[]) => lines.map((l) => [l.turn, l.level, l.text]);
const turn = (name: string, message: string) => [
  [name, "info", `heard ${message}`],
  [name, "warn", "careful"],
  [name, "error", 'a {"number":1}'],
];

test("lines of every turn, in order, also of one that threw; readers of the session see none of them", async () => {
  await deploy("logging", TALK);
  const session = await openSession("logging", a);
  await session.say("one");
  await session.say("throw");
  await session.say("three");
  const page = sessionLogList.parse(await session.logs());
  expect(texts(page.lines)).toEqual([...turn("t1", "one"), ...turn("t2", "throw"), ...turn("t3", "three")]);
  expect(page).toMatchObject({ seq: 9, dropped: 0 });
  expect(page.lines.map((line) => [line.session, line.seq])).toEqual(Array.from({ length: 9 }, (_, i) => [session.id, i + 1]));
  expect((await session.logs(6)).lines).toEqual(page.lines.slice(6));
  expect((await session.logs(9)).lines).toEqual([]);
  expect(JSON.stringify(session.events)).not.toContain("careful");
  session.close();
});

test("another tenant's, another scope's, and a page after nonsense are refused", async () => {
  await deploy("logging", TALK);
  const session = await openSession("logging", a);
  session.close();
  const path = `/v1/sessions/${session.id}/logs`;
  expect(await problem(request("GET", path, { key: b.all }))).toMatchObject({ status: 404, code: "session_not_found" });
  expect(await problem(request("GET", path, { key: a.infer }))).toMatchObject({ status: 403, code: "insufficient_scope" });
  expect(await problem(request("GET", path))).toMatchObject({ status: 401, code: "missing_key" });
  expect(await problem(request("GET", `${path}?after=-1`, { key: a.all }))).toMatchObject({ status: 400, param: "after" });
  expect(await problem(request("POST", path, { key: a.all }))).toMatchObject({ status: 405, code: "method_not_allowed" });
});

test("an object that dies in mid-turn: each line once", async () => {
  await deploy(
    "dying",
    `async (ctx) => {
      ctx.log("before");
      const words = await ctx.ai.chat(ctx.input.message);
      ctx.log("after");
      return words.usage.completion_tokens;
    }`,
  );
  const first = await openSession("dying", a);
  void first.say({ peer: { words: 200, interval_ms: 2 } });
  while (!first.events.some((event) => event.type === "delta")) await scheduler.wait(1);
  await abortAllDurableObjects();
  const second = await openSession("dying", a, { id: first.id, turns: 1 });
  while (!second.events.some((event) => event.type === "turn.done")) await scheduler.wait(1);
  expect(texts((await second.logs()).lines)).toEqual([
    ["t1", "info", "before"],
    ["t1", "info", "after"],
  ]);
  second.close();
});

test("beyond the limit the oldest go and are counted; a page has as many lines as a page may", async () => {
  await deploy("logging", TALK);
  const session = await openSession("logging", a);
  await runInDurableObject(session.stub, (_object: AgentSession, { storage }) => {
    const log = { type: "log", at_ms: 1, level: "info" } as const;
    const facts = Array.from({ length: LOG_LINES_MAX }, (_, i) => ({ ...log, text: `line ${i + 1}` }));
    storage.transactionSync(() => new SessionLines(storage.sql).append("t0", facts));
  });
  expect(await session.logs()).toMatchObject({ seq: LOG_LINES_MAX, dropped: 0 });
  await session.say("one");
  const page = await session.logs();
  expect(page).toMatchObject({ seq: LOG_LINES_MAX + 3, dropped: 3 });
  expect(page.lines).toHaveLength(LINES_PAGE_MAX);
  expect(page.lines[0]).toMatchObject({ seq: 4, text: "line 4" });
  expect(texts((await session.logs(LOG_LINES_MAX)).lines)).toEqual(turn("t1", "one"));
  session.close();
});

test("an append whose transaction fails leaves no line", async () => {
  await deploy("logging", TALK);
  const session = await openSession("logging", a);
  await runInDurableObject(session.stub, (_object: AgentSession, { storage }) => {
    const lines = new SessionLines(storage.sql);
    const attempt = () =>
      storage.transactionSync(() => {
        lines.append("t1", [{ type: "log", at_ms: 1, level: "info", text: "lost" }]);
        throw new Error("as a full disk would");
      });
    expect(attempt).toThrow("full disk");
    expect(lines.page(0)).toEqual({ lines: [], seq: 0, dropped: 0 });
  });
  session.close();
});

test("exported and imported with the session", async () => {
  await deploy("logging", TALK);
  const session = await openSession("logging", a);
  await session.say("one");
  const exported = await session.stub.export();
  const copy = bindings.SESSIONS.getByName(`${a.tenant}/${session.id}-copy`);
  await runInDurableObject(copy, (_object: AgentSession, { storage }) =>
    storage.transactionSync(() => importSession(storage.sql, structuredClone(exported))),
  );
  await evictDurableObject(copy);
  expect(await copy.logs(0)).toEqual(await session.stub.logs(0));
  expect(texts((await copy.logs(0)).lines)).toEqual(turn("t1", "one"));
  session.close();
});

test("a session of format 1 that was stored before lines were kept opens with none, and keeps what comes", async () => {
  await deploy("logging", TALK);
  const { id, stub: now } = await openSession("logging", a);
  const { value: identity } = (await now.export()).tables["session_meta"]!.find((row) => row["key"] === "identity")!;
  const old = bindings.SESSIONS.getByName(`${a.tenant}/${id.replace(/.$/, (last) => (last === "0" ? "1" : "0"))}`);
  const as = String(identity).replace(
    id,
    id.replace(/.$/, (last) => (last === "0" ? "1" : "0")),
  );
  await runInDurableObject(old, (_object: AgentSession, { storage }) =>
    storage.transactionSync(() => {
      importSession(storage.sql, fixture);
      storage.sql.exec("DROP TABLE session_lines");
      storage.sql.exec("UPDATE session_meta SET value = ? WHERE key = 'identity'", as);
    }),
  );
  await evictDurableObject(old);
  expect(await old.logs(0)).toEqual({ lines: [], seq: 0, dropped: 0 });
  const session = await openSession("logging", a, { id: (await old.describe())!.session, turns: 3 });
  await session.say("one");
  expect(texts((await session.logs()).lines)).toEqual(turn("t4", "one"));
  session.close();
});
