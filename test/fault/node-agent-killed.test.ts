/**
 * SIGKILL of the node agent in mid-call: its engines end; a call whose tokens were sent ends with `engine_failed`, others end or are retried; the
 * same provision goes on, and the books add up.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { invoke, invokeStream } from "../../cli/commands/invoke.ts";
import { isAlive, processStarted, type ProcessName } from "../../cli/dev/process.ts";
import type { RunEvent } from "../../schema/core/wire/http.ts";
import { connection, deployText, product, running, settledUsage, withDatabase } from "../support/product.ts";
import { until } from "../support/until.ts";

/** What the engine is to say; an answer is as long as its schema asks for. */
const CHAT = `const chat = (about, tokens) => ({
  messages: [{ role: "user", content: about }],
  max_tokens: tokens,
  response_format: { type: "json_schema", json_schema: { name: "long", schema: { const: "word".repeat(tokens) } } },
});`;
const SPEAK = `import { agent } from "millrace";
${CHAT}
export default agent(async (ctx) => (await ctx.ai.chat(chat("speak " + ctx.input.n, ctx.input.tokens))).usage);`;
/** Its pieces are the run's deltas, as they arrive. */
const TALK = `import { agent } from "millrace";
${CHAT}
export default agent(async (ctx) => {
  for await (const piece of ctx.ai.stream(chat("talk", ctx.input.tokens)));
  return "to the end";
});`;
/** Seconds of an engine's time: far from its end when its first token is seen. */
const LONG_TOKENS = 8_000;

type State = { instances: { instance_id: string; state: string }[]; epoch: number; calls: number; legs: number };
const state = async (): Promise<State> => {
  const { gateway_url, key } = product();
  return (await (await fetch(`${gateway_url}/admin/state`, { headers: { authorization: `Bearer ${key}` } })).json()) as State;
};
const four = async (): Promise<string[] | null> => {
  const ready = (await state()).instances.filter((one) => one.state === "ready").map((one) => one.instance_id);
  return ready.length === 4 ? ready : null;
};
const node = (name: string) => readFileSync(join(product().state, "gateway", "nodes", "node-a100-1", name), "utf8");
const named = (pid: number): ProcessName => ({ pid, started: processStarted(pid) ?? "" });
const agent = () => named((JSON.parse(node("agent.json")) as { pid: number }).pid);
const engines = () =>
  (JSON.parse(node("engines.json")) as { engines: { process: { pid: number } | null }[] }).engines.flatMap((one) =>
    one.process === null ? [] : [named(one.process.pid)],
  );

it("survives SIGKILL of the node agent while runs are in flight", async () => {
  await deployText("speak", SPEAK);
  await deployText("talk", TALK);
  const before = await until("four instances are ready", four, 60_000);
  const { gateway } = running();
  const { epoch } = await state();
  const provisions = node("provisions.jsonl");
  const [killed, old_engines] = [agent(), engines()];
  expect(old_engines).toHaveLength(4);

  const speak = (n: number, tokens: number) => invoke(connection(), "speak", { n, tokens }, {});
  const runs = Array.from({ length: 4 }, (_, n) =>
    speak(n, 1_000).then(
      (run) => run.error?.code ?? run.status,
      (error: { code?: string }) => error.code,
    ),
  );
  await until("legs are in flight", async () => (await state()).legs > 0);
  const talk = invokeStream(connection(), "talk", { tokens: LONG_TOKENS }, {});
  for (let type = ""; type !== "delta";) {
    const { value } = await talk.next();
    expect(value).not.toMatchObject({ type: expect.stringMatching(/^run\.(done|failed)$/) });
    type = value?.type ?? "delta";
  }
  process.kill(killed.pid, "SIGKILL");
  await until("its engines have ended", () => !old_engines.some(isAlive), 30_000);
  let last: RunEvent | null = null;
  for await (const event of talk) last = event;
  expect(last).toMatchObject({ type: "run.failed", error: { code: "engine_failed" } });
  for (const end of await Promise.all(runs)) expect(["done", "engine_failed", "no_capacity"]).toContain(end);
  await until("nothing is in flight", async () => (await state()).calls === 0, 30_000);

  await until("four others are ready", async () => (await four())?.every((instance) => !before.includes(instance)), 60_000);
  expect((await speak(99, 8)).status).toBe("done");
  // The gateway is the same, under the same epoch; the agent is another, with the same provision.
  expect([running().gateway, (await state()).epoch]).toEqual([gateway, epoch]);
  expect(agent().pid).not.toBe(killed.pid);
  expect(node("provisions.jsonl")).toBe(provisions);

  const { reconciliation } = await settledUsage("function");
  expect(reconciliation).toMatchObject({ difference_gpu_ns: "0", calls_without_usage: 0 });
  const open = await withDatabase((sql) => sql`select 1 from provisions where released_at_ns is null`);
  expect(open).toHaveLength(1);
});
