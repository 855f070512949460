/** Calls that wait: for an engine that says nothing, for a gateway that is on its way down. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MODEL, openWorld, type World } from "../../test/support/gateway-world.ts";
import { until } from "../../test/support/until.ts";

const HOOK_MS = 60_000;
const DEADLINE_MS = 5_000;
let world: World;
beforeAll(async () => {
  world = await openWorld({ pools: [{ role: "both", groups: 1 }], limits: { deadline_ms_default: DEADLINE_MS, drain_ms: 1_000 } });
  await until("an instance", async () => (await world.state()).instances.some((each) => each.state === "ready"), HOOK_MS);
}, HOOK_MS);
afterAll(() => world.close(), HOOK_MS);

const chat = (stream: boolean): Promise<Response> =>
  fetch(`${world.url()}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${world.key}`, "content-type": "application/json" },
    body: JSON.stringify({ model: MODEL, messages: [{ role: "user", content: "hi" }], max_tokens: 4, stream }),
  });
const hang = async (count: number) => {
  const [engine] = await world.engines();
  await world.arm(engine!, { fault: "hang", count });
};

describe("an engine that hangs while healthy", () => {
  test("a stream is told that it waits, and ends at its deadline with an error event; a whole answer is a 504", async () => {
    await hang(2);
    const [stream, whole] = await Promise.all([chat(true), chat(false)]);
    expect(stream.status).toBe(200);
    const text = await stream.text();
    expect(text).toMatch(/^: working\n\n/);
    expect(text).toContain('"code":"deadline_exceeded"');
    expect(text).not.toContain("[DONE]");
    expect(whole.status).toBe(504);
    expect(await whole.json()).toMatchObject({ error: { code: "deadline_exceeded", type: "server_error" } });
  });
});

describe("a gateway that was told to stop", () => {
  test("takes no call, lets those that run have drain_ms, tells the rest, exits 0", async () => {
    await hang(1);
    const running = chat(false);
    await until("the call to run", async () => (await world.state()).legs > 0);
    const stopped = world.stop("SIGTERM");
    const refused = await until("a refusal", async () => {
      const answer = await chat(false);
      return answer.status === 503 ? answer : null;
    });
    expect(refused.headers.get("retry-after")).toBe("1");
    expect(await refused.json()).toMatchObject({ error: { code: "gateway_unavailable" } });
    const told = await running;
    expect(told.status).toBe(503);
    expect(await told.json()).toMatchObject({ error: { code: "gateway_unavailable" } });
    expect(await stopped).toBe(0);
  }, 60_000);
});
