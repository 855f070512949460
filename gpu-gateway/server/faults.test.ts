/** What dies under a call: its client, its instances, the gateway itself. Nothing hangs, nothing is lost, the books add up. */
import { readFileSync } from "node:fs";
import path from "node:path";
import OpenAI from "openai";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { MODEL, openWorld, type RunningEngine, type World } from "../../test/support/gateway-world.ts";
import { until } from "../../test/support/until.ts";

const ask = { model: MODEL, messages: [{ role: "user" as const, content: "Tell me of mills, at length." }], max_tokens: 64 };
/** Tokens are milliseconds apart, so that there is a middle of a stream. */
const SPEED = 2;
/** Seven processes start, on a machine that may be busy. */
const HOOK_MS = 60_000;
const ROLES = ["prefill", "prefill", "decode", "decode"];

function clientOf(world: World): OpenAI {
  return new OpenAI({ baseURL: `${world.url()}/v1`, apiKey: world.key, maxRetries: 0 });
}
/** The four instances, once policy knows them all. */
function allReady(world: World): Promise<readonly RunningEngine[]> {
  return until(
    "all instances",
    async () => {
      const { instances } = await world.state();
      const ready = instances.filter((each) => each.state === "ready").map((each) => each.role);
      return ready.sort().join() === [...ROLES].sort().join() ? world.engines() : null;
    },
    HOOK_MS,
  );
}
const busy = async (world: World, role: string): Promise<RunningEngine> => {
  const found = await until(`a busy ${role} instance`, async () => {
    const { instances } = await world.state();
    return instances.find((each) => each.role === role && each.legs > 0);
  });
  const engines = await world.engines();
  return engines.find((engine) => engine.instance === found.instance_id)!;
};
/** Its agent has told of its end: until then it may still be listed as ready. */
const gone = (world: World, engine: RunningEngine) =>
  until("the dead instance to be known", async () => !(await world.state()).groups.some((group) => group.group === engine.group));
const idle = (world: World) => until("nothing in flight", async () => (await world.state()).calls === 0);

describe("under a call", () => {
  let world: World;
  let client: OpenAI;
  let engines: readonly RunningEngine[];
  beforeAll(async () => {
    world = await openWorld({ speed: SPEED });
    client = clientOf(world);
    engines = await allReady(world);
  }, HOOK_MS);
  afterEach(async () => {
    engines = await allReady(world);
  }, HOOK_MS);
  afterAll(() => world.close(), HOOK_MS);

  test("a call is two legs: prefill on one instance, decode on another", async () => {
    await client.chat.completions.create({ ...ask, max_tokens: 4 });
    const legs = await Promise.all(engines.map(async (engine) => ({ role: engine.role, stats: await world.stats(engine) })));
    const recent = legs.flatMap(({ role, stats }) =>
      (stats["recent"] as { leg: string; request_id: string }[]).map((each) => ({ role, ...each })),
    );
    expect(recent).toEqual([
      expect.objectContaining({ role: "prefill", leg: "prefill" }),
      expect.objectContaining({ role: "decode", leg: "decode" }),
    ]);
    expect(new Set(recent.map((each) => each.request_id)).size).toBe(1);
  });

  test("a client that goes away stops its decode leg", async () => {
    const leaving = new AbortController();
    const stream = await client.chat.completions.create({ ...ask, max_tokens: 2_000, stream: true }, { signal: leaving.signal });
    await stream[Symbol.asyncIterator]().next();
    leaving.abort();
    await idle(world);
    const ended = await until("the call in the books", async () => {
      await settle(world);
      const [row] = await world.sql`select outcome, code from calls order by ended_at_ns desc limit 1`;
      return row;
    });
    expect(ended).toMatchObject({ outcome: "cancelled", code: "cancelled" });
  });

  test("of a call of several choices, which is one leg, the books have the prompt too", async () => {
    const whole = await client.chat.completions.create({ ...ask, n: 2, max_tokens: 1 });
    const leaving = new AbortController();
    const stream = await client.chat.completions.create({ ...ask, n: 2, max_tokens: 2_000, stream: true }, { signal: leaving.signal });
    await stream[Symbol.asyncIterator]().next();
    leaving.abort();
    await idle(world);
    const ended = await until("the call in the books", async () => {
      await settle(world);
      const [row] = await world.sql`select outcome, prompt_tokens::int as prompt from calls order by ended_at_ns desc limit 1`;
      return row;
    });
    expect(ended).toEqual({ outcome: "cancelled", prompt: whole.usage?.prompt_tokens });
  });

  test("kill -9 of the decode instance in mid-stream: one clear error event", async () => {
    const stream = await client.chat.completions.create({ ...ask, max_tokens: 2_000, stream: true });
    let chunks = 0;
    const reading = (async () => {
      for await (const _ of stream) chunks += 1;
    })();
    const victim = await busy(world, "decode");
    await until("some tokens", () => chunks > 2);
    process.kill(victim.pid, "SIGKILL");
    await expect(reading).rejects.toThrow(/engine/);
    await gone(world, victim);
  });

  test("kill -9 of a prefill instance that holds KV: the call is retried, and answered", async () => {
    for (const engine of engines) await world.arm(engine, { fault: "kv_late", delay_ms: 2_000 });
    const answer = client.chat.completions.create({ ...ask, max_tokens: 8 });
    const victim = await until("held KV", async () => {
      const stats = await Promise.all(engines.map(async (engine) => ({ engine, held: (await world.stats(engine))["held"] })));
      return stats.find(({ held }) => Number(held) > 0)?.engine;
    });
    process.kill(victim.pid, "SIGKILL");
    expect((await answer).usage?.completion_tokens).toBe(8);
    await gone(world, victim);
    // Both pairs are new or cleared for the next test.
    for (const engine of await world.engines()) await fetch(`${engine.url}/sim/faults`, { method: "DELETE" });
  });
});

describe("kill -9 of the gateway", () => {
  let world: World;
  beforeAll(async () => {
    world = await openWorld({ speed: SPEED });
    await allReady(world);
  }, HOOK_MS);
  afterAll(() => world.close(), HOOK_MS);

  test("instances are adopted, not started twice; the gap is lost; metered = provisioned", async () => {
    const before = await world.engines();
    // As long as its schema asks for: on its way for longer than the journal takes to note it.
    const long = { type: "json_schema", json_schema: { name: "long", schema: { const: "word".repeat(2_000) } } } as const;
    const stream = await clientOf(world).chat.completions.create({ ...ask, response_format: long, max_tokens: 2_000, stream: true });
    await stream[Symbol.asyncIterator]().next();
    const journal = path.join(world.state_dir, "journal", "000000000000001.ndjson");
    await until("tokens that the journal knows of", () => readFileSync(journal, "utf8").includes('"calls_progressed"'));
    const { epoch } = await world.state();
    await world.stop("SIGKILL");
    await world.start();
    const after = await allReady(world);
    expect(pids(after)).toEqual(pids(before));
    expect((await world.state()).epoch).toBe(epoch + 1);
    expect((await clientOf(world).chat.completions.create({ ...ask, max_tokens: 4 })).usage?.completion_tokens).toBe(4);

    const watermark = await settle(world);
    const [lost] = await world.sql`select coalesce(sum(quantity), 0)::text as ns from usage where cost_centre = 'lost'`;
    expect(BigInt(String(lost?.["ns"]))).toBeGreaterThan(0n);
    const [open] = await world.sql`
      select outcome, code, prompt_tokens::int as prompt, completion_tokens::int as completion from calls where code = 'gateway_lost'`;
    expect(open).toMatchObject({ outcome: "failed" });
    expect(Number(open?.["prompt"])).toBeGreaterThan(0);
    expect(Number(open?.["completion"])).toBeGreaterThan(0);
    expect(watermark).toMatch(/Z$/);
    await expectReconciled(world);
  });
});

const pids = (engines: readonly RunningEngine[]): number[] => engines.map((engine) => engine.pid).sort((a, b) => a - b);

async function settle(world: World): Promise<string> {
  const answer = await fetch(`${world.url()}/internal/settle`, { method: "POST", headers: { authorization: `Bearer ${world.key}` } });
  const body = (await answer.json()) as { watermark?: string };
  expect(body).toMatchObject({ watermark: expect.any(String) });
  return body.watermark ?? "";
}

/** From the node agent's own record and the usage rows, up to the watermark, by SQL of its own. */
async function expectReconciled(world: World): Promise<void> {
  const [sums] = await world.sql`
    select
      (select sum(quantity) from usage where kind = 'gpu_time')::text as metered,
      (select sum(p.gpus * (least(coalesce(p.released_at_ns, w.through_ns), w.through_ns) - p.provisioned_at_ns))
         from provisions p, watermarks w where w.cell = p.cell)::text as provisioned`;
  expect(sums?.["metered"]).toBe(sums?.["provisioned"]);
}
