/**
 * Nothing crosses between sessions that share an isolate, nor between tenants, who never share one (I3, I10). The guests themselves
 * record in a module global who ran when: that is how the tests know that two sessions met, and how often.
 *
 * A global of the isolate is shared by the sessions in it; that is what an isolate for a version means, and what a function chooses
 * away with `isolation: "run"`. What must not cross is what the platform gives: capabilities, memory, log lines, events, bills.
 */
import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { expect, test } from "vitest";
import { callId, asId } from "../schema/core/ids.ts";
import type { SessionEvent } from "../schema/core/wire/session.ts";
import type { UsageEvent } from "../schema/core/wire/usage.ts";
import { withDatabase } from "./database.ts";
import type { AgentSession } from "./objects/agent-session.ts";
import { openSession, type TestSession } from "./session.test-support.ts";
import { a, b, bindings, deploy, peerState } from "./testing.ts";

const TURNS = 25;
const ROUNDS = 20;
const [LEFT, RIGHT] = ["leftmost", "on-the-right"] as const;
type Who = typeof LEFT | typeof RIGHT;

const GLOBALS = `
import { AsyncLocalStorage } from "node:async_hooks";
const flow = new AsyncLocalStorage();
/** A version that is bent on it takes itself out of the isolate's own check, by the platform's method that the check relies on. */
const outsideOfAnyRun = (work) => {
  const { getStore } = AsyncLocalStorage.prototype;
  AsyncLocalStorage.prototype.getStore = () => undefined;
  try { return work(); } finally { AsyncLocalStorage.prototype.getStore = getStore; }
};
const contexts = {};
const sequence = [];
const arrived = {};
let isolate;
async function denied(faults, what, attempt) {
  try { await attempt(); faults.push(what); }
  catch (error) { if (error.code !== "capability_denied") faults.push(what + ": " + error); }
}
/** Past the isolate's own check, which then sees no run: what is over stands still, and the platform binds what it gave to one request. */
async function useless(faults, what, attempt) {
  const still = new Promise((_, reject) => setTimeout(reject, 50, new Error("stands still")));
  try { await Promise.race([outsideOfAnyRun(attempt), still]); faults.push("outside: " + what); }
  catch (error) { if (!/on behalf of a different request|^stands still/.test(error.message)) faults.push("outside: " + what + ": " + error); }
}
/** Goes on when the other has come as often: at every such place both have been, and neither has gone on. */
async function meet(who, other) {
  sequence.push(who);
  const times = (arrived[who] = (arrived[who] ?? 0) + 1);
  while ((arrived[other] ?? 0) < times) await new Promise((resolve) => setTimeout(resolve));
}
const asked = (ctx) => ({
  "memory.set": () => ctx.memory.set("stolen", 1),
  "memory.get": () => ctx.memory.get("last"),
  "memory.list": () => ctx.memory.list(),
  emit: () => ctx.emit("stolen", null),
  chat: () => ctx.ai.chat("stolen"),
  call: () => ctx.call("stolen"),
  step: () => ctx.step("stolen", () => 1),
  "agent.emit": () => ctx.agent("stolen").emit("stolen", null),
});
const everything = (ctx) => ({ ...asked(ctx), log: () => ctx.log("stolen") });`;
/** One turn: in each round the two sessions meet at every await, and each tries what the other left in a global. */
const WITNESS = `async (ctx) => {
  isolate ??= crypto.randomUUID();
  const { who, turn, words } = JSON.parse(ctx.input.message);
  if (who === undefined) return { sequence };
  const other = who === "${LEFT}" ? "${RIGHT}" : "${LEFT}";
  const faults = [];
  contexts[who] = ctx;
  const awake = async () => {
    await meet(who, other);
    if (flow.getStore() !== who) faults.push("the flow of " + flow.getStore());
    if (JSON.parse(ctx.input.message).who !== who) faults.push("input");
  };
  const before = await ctx.memory.get("last");
  if (turn === 1 ? before !== undefined : before.who !== who || before.turn !== turn - 1) faults.push("memory between turns");
  await flow.run(who, async () => {
    for (let round = 1; round <= ${ROUNDS}; round += 1) {
      ctx.log(who + " " + turn + "/" + round);
      await ctx.memory.set("round", { who, turn, round });
      await awake();
      const kept = await ctx.memory.get("round");
      await awake();
      if (kept.who !== who || kept.turn !== turn || kept.round !== round) faults.push("memory");
      console.log(who + " still " + turn + "/" + round);
      for (const [what, attempt] of Object.entries(everything(contexts[other]))) await denied(faults, what, attempt);
      await ctx.emit("round", { who, turn, round });
      await awake();
    }
  });
  const said = await ctx.agent(who).ai.chat(JSON.stringify({ peer: { words } }));
  await ctx.memory.set("last", { who, turn });
  return { who, turn, faults, isolate, session: ctx.session.id, program: ctx.run.id, said: said.text, keys: await ctx.memory.list() };
}`;

const spoken = (count: number): string => Array.from({ length: count }, (_, i) => `w${i + 1} `).join("");
const wordsOf = (who: Who, turn: number): number => (who === LEFT ? 3 : 40) + turn;
const turns = Array.from({ length: TURNS }, (_, i) => i + 1);
const rounds = Array.from({ length: ROUNDS }, (_, i) => i + 1);
const only = <T extends SessionEvent["type"]>(session: TestSession, type: T) =>
  session.events.filter((event): event is Extract<SessionEvent, { type: T }> => event.type === type);

test(`two sessions of one tenant in one isolate, interleaved 1000 times and more: nothing crosses`, async () => {
  await deploy("session-witness", WITNESS, { before: GLOBALS, config: { timeout_ms: 20_000 } });
  const left = await openSession("session-witness", a);
  const right = await openSession("session-witness", a);
  const pair: [Who, TestSession][] = [
    [LEFT, left],
    [RIGHT, right],
  ];
  const isolates = new Set<unknown>();
  for (const turn of turns) {
    await Promise.all(
      pair.map(async ([who, session]) => {
        const words = wordsOf(who, turn);
        const end = await session.say({ who, turn, words });
        const output = end.type === "turn.done" ? (end.output as Record<string, unknown>) : end;
        expect(output).toEqual({
          who,
          turn,
          faults: [],
          isolate: expect.any(String),
          session: session.id,
          program: `${session.id}/t${turn}`,
          said: spoken(words),
          keys: ["last", "round"],
        });
        isolates.add("isolate" in output && output.isolate);
      }),
    );
  }

  // They shared one isolate, and in it they took turns more than a thousand times.
  expect(isolates.size).toBe(1);
  const end = await left.say({});
  const { sequence } = (end.type === "turn.done" && end.output) as { sequence: Who[] };
  expect(sequence).toHaveLength(2 * TURNS * ROUNDS * 3);
  expect(sequence.filter((who, i) => i > 0 && who !== sequence[i - 1]).length).toBeGreaterThan(1_000);

  const { calls } = await peerState();
  for (const [who, session] of pair) {
    // Events, deltas and usage: its own, all of them, and none but these.
    expect(only(session, "event").map((event) => [event.turn, event.data])).toEqual(
      turns.flatMap((turn) => rounds.map((round) => [`t${turn}`, { who, turn, round }])),
    );
    expect(only(session, "error")).toEqual([]);
    for (const turn of turns) {
      const words = wordsOf(who, turn);
      const call = callId(asId<"program">(`${session.id}/t${turn}`), "ai#1");
      const deltas = only(session, "delta").filter((event) => event.turn === `t${turn}`);
      expect(deltas.map((event) => event.text).join("")).toBe(spoken(words));
      expect(new Set(deltas.map((event) => event.agent))).toEqual(new Set([who]));
      expect(only(session, "usage").filter((event) => event.turn === `t${turn}`)).toMatchObject([
        { call, agent: who, usage: { completion_tokens: words } },
      ]);
      expect(calls[call]).toMatchObject({ runs: 1, ended: true });
    }
    // Log lines.
    const { lines, seq } = await session.logs();
    expect(lines.map((line) => [line.session, line.turn, line.text])).toEqual(
      turns.flatMap((turn) =>
        rounds.flatMap((round) => [
          [session.id, `t${turn}`, `${who} ${turn}/${round}`],
          [session.id, `t${turn}`, `${who} still ${turn}/${round}`],
        ]),
      ),
    );
    expect(seq).toBe(2 * TURNS * ROUNDS);
    await expectOwnBill(session, who === LEFT ? TURNS + 1 : TURNS);
    // Nothing of the other's name anywhere that this one wrote, but in the one answer that was asked for it.
    const written = JSON.stringify([session.events.filter((event) => event !== end), lines]);
    expect(written).not.toContain(who === LEFT ? RIGHT : LEFT);
    expect(written).not.toContain("stolen");
  }
}, 180_000);

/** Each row says the session, the turn and its time; Postgres has all of them. */
async function expectOwnBill(session: TestSession, count: number): Promise<void> {
  const owed = await runInDurableObject(session.stub, (_object: AgentSession, { storage }) =>
    storage.sql
      .exec<{ event: string }>("SELECT event FROM usage_outbox")
      .toArray()
      .map((row) => JSON.parse(row.event) as UsageEvent),
  );
  for (const row of owed) expect(row).toMatchObject({ session: session.id, tenant: a.tenant });
  session.close();
  while (await runDurableObjectAlarm(session.stub));
  const rows = await withDatabase(
    bindings.DB,
    (sql) =>
      sql<{ kind: string; program: string | null; from_ns: string; to_ns: string; quantity: string }[]>`
        select kind, program, from_ns::text, to_ns::text, quantity::text from usage where session = ${session.id} order by from_ns, kind`,
  );
  const started = new Map(only(session, "turn.started").map((event) => [`${session.id}/${event.turn}`, event.at_ms]));
  const ended = new Map(only(session, "turn.done").map((event) => [`${session.id}/${event.turn}`, event.at_ms]));
  expect(started.size).toBe(count);
  const ns = (ms: number | undefined) => String(BigInt(ms ?? 0) * 1_000_000n);
  for (const kind of ["edge_request", "edge_wall"]) {
    const of_kind = rows.filter((row) => row.kind === kind);
    expect(of_kind.map((row) => row.program)).toEqual([...started.keys()]);
    for (const { program, from_ns, to_ns } of of_kind) {
      expect([from_ns, to_ns]).toEqual([ns(started.get(program ?? "")), ns(ended.get(program ?? ""))]);
    }
  }
  expect(rows.filter((row) => !row.kind.startsWith("edge_")).every((row) => row.kind === "session_time" && row.program === null)).toBe(
    true,
  );
}

test("what a turn left in a global is of no use once the turn is over, in another session's turn or outside of any", async () => {
  await deploy(
    "session-thief",
    `async (ctx) => {
      if (ctx.input.message === "leave") { contexts.left = ctx; await ctx.memory.set("mine", 1); return "left"; }
      if (ctx.input.message === "hold") {
        await ctx.emit("holding");
        while (!contexts.released) await new Promise((resolve) => setTimeout(resolve));
        return "held";
      }
      if (ctx.input.message === "release") return (contexts.released = true);
      const faults = [];
      for (const [what, attempt] of Object.entries(everything(contexts.left))) await denied(faults, what, attempt);
      for (const [what, attempt] of Object.entries(asked(contexts.left))) await useless(faults, what, attempt);
      return faults;
    }`,
    { before: GLOBALS },
  );
  const victim = await openSession("session-thief", a);
  const thief = await openSession("session-thief", a);
  expect(await victim.say("leave")).toMatchObject({ output: "left" });
  const [events, peer] = [victim.events.length, Object.keys((await peerState()).calls).length];
  expect(await thief.say("steal")).toMatchObject({ type: "turn.done", output: [] });
  expect(await victim.say("steal")).toMatchObject({ type: "turn.done", output: [] });
  expect(victim.events.slice(events).map((event) => event.type)).toEqual(["message", "turn.started", "turn.done"]);
  expect(Object.keys((await peerState()).calls)).toHaveLength(peer);
  // The object too refuses, in the middle of a turn, what speaks for another execution than the one it is carrying out.
  const held = victim.say("hold");
  while (!victim.events.some((event) => event.type === "event" && event.name === "holding")) await scheduler.wait(1);
  const ask = `memory ${JSON.stringify({ op: "memory.get", path: "memory#1", key: "mine" })}`;
  expect(JSON.parse(await victim.stub.guest("0".repeat(32), ask))).toMatchObject({ ok: false, error: { code: "capability_denied" } });
  expect(await thief.say("release")).toMatchObject({ output: true });
  expect(await held).toMatchObject({ output: "held" });
  for (const session of [victim, thief]) {
    expect(await session.logs()).toEqual({ lines: [], seq: 0, dropped: 0 });
    session.close();
  }
});

const ROLL_CALL = `async (ctx) => {
  const { who } = JSON.parse(ctx.input.message);
  isolate ??= crypto.randomUUID();
  for (let round = 1; round <= ${ROUNDS}; round += 1) {
    sequence.push(who);
    globalThis.last = who;
    ctx.log(who);
    await ctx.memory.set("who", who);
  }
  return { isolate, met: [...new Set(sequence)], last: globalThis.last, memory: await ctx.memory.get("who") };
}`;

test("sessions of two tenants with byte-identical code share no isolate: no global, memory or log line crosses", async () => {
  await Promise.all([a, b].map((of) => deploy("session-twin", ROLL_CALL, { key: of.all, before: GLOBALS })));
  const isolates = new Set<unknown>();
  const sessions = await Promise.all([a, b].map((of) => openSession("session-twin", of)));
  for (let turn = 1; turn <= 5; turn += 1) {
    await Promise.all(
      sessions.map(async (session) => {
        const end = await session.say({ who: session.tenant });
        expect(end).toMatchObject({ output: { met: [session.tenant], last: session.tenant, memory: session.tenant } });
        isolates.add(end.type === "turn.done" && (end.output as { isolate: string }).isolate);
      }),
    );
  }
  expect(isolates.size).toBe(2);
  for (const session of sessions) {
    expect(new Set((await session.logs()).lines.map((line) => line.text))).toEqual(new Set([session.tenant]));
    session.close();
  }
});

test("with `isolation: run` not even a global of the isolate crosses, between two sessions nor between two turns", async () => {
  await deploy("session-fresh", ROLL_CALL, { before: GLOBALS, config: { isolation: "run" } });
  const sessions = await Promise.all([a, a].map((of) => openSession("session-fresh", of)));
  const isolates: unknown[] = [];
  for (let turn = 1; turn <= 3; turn += 1) {
    await Promise.all(
      sessions.map(async (session) => {
        const who = `${session.id}/${turn}`;
        const end = await session.say({ who });
        expect(end).toMatchObject({ output: { met: [who], last: who, memory: who } });
        isolates.push(end.type === "turn.done" && (end.output as { isolate: string }).isolate);
      }),
    );
  }
  expect(new Set(isolates).size).toBe(6);
  for (const session of sessions) session.close();
});
