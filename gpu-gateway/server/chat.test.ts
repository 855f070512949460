import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MODEL, openWorld, type World } from "../../test/support/gateway-world.ts";

describe("chat completions, by the official client", () => {
  let world: World;
  let client: OpenAI;
  beforeAll(async () => {
    world = await openWorld();
    client = new OpenAI({ baseURL: `${world.url()}/v1`, apiKey: world.key, maxRetries: 0 });
  }, 60_000);
  afterAll(() => world.close(), 60_000);

  const ask = { model: MODEL, messages: [{ role: "user" as const, content: "What is a mill race?" }], max_tokens: 8 };

  test("streamed and not: the same text, the same usage", async () => {
    const whole = await client.chat.completions.create(ask);
    expect(whole.object).toBe("chat.completion");
    expect(whole.choices[0]?.message.role).toBe("assistant");
    expect(whole.usage?.completion_tokens).toBe(8);

    const ids = new Set<string>();
    const roles: unknown[] = [];
    const reasons: unknown[] = [];
    let text = "";
    let last;
    for await (const chunk of await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } })) {
      ids.add(chunk.id);
      last = chunk;
      for (const choice of chunk.choices) {
        text += choice.delta.content ?? "";
        if (choice.delta.role !== undefined) roles.push(choice.delta.role);
        if (choice.finish_reason !== null) reasons.push(choice.finish_reason);
      }
    }
    expect(ids.size).toBe(1);
    expect(roles).toEqual(["assistant"]);
    expect(reasons).toEqual(["length"]);
    expect(last?.choices).toEqual([]);
    expect(text).toBe(whole.choices[0]?.message.content);
    expect(last?.usage?.prompt_tokens).toBe(whole.usage?.prompt_tokens);
    expect(last?.usage?.completion_tokens).toBe(8);
  });

  test("text completions, streamed and not", async () => {
    const prompt = { model: MODEL, prompt: "What is a mill race?", max_tokens: 8 };
    const whole = await client.completions.create(prompt);
    expect(whole).toMatchObject({
      object: "text_completion",
      choices: [{ index: 0, finish_reason: "length" }],
      usage: { completion_tokens: 8 },
    });
    let text = "";
    for await (const chunk of await client.completions.create({ ...prompt, stream: true })) text += chunk.choices[0]?.text ?? "";
    expect(text).toBe(whole.choices[0]?.text);
  });

  test("several choices, each with its own role and end", async () => {
    const whole = await client.chat.completions.create({ ...ask, n: 3 });
    expect(whole.choices.map((choice) => choice.index)).toEqual([0, 1, 2]);
    const ends = new Map<number, number>();
    const said = ["", "", ""];
    for await (const chunk of await client.chat.completions.create({ ...ask, n: 3, stream: true })) {
      for (const { index, delta, finish_reason } of chunk.choices) {
        said[index] += delta.content ?? "";
        if (finish_reason !== null) ends.set(index, (ends.get(index) ?? 0) + 1);
      }
    }
    expect([...ends].sort(([a], [b]) => a - b)).toEqual([
      [0, 1],
      [1, 1],
      [2, 1],
    ]);
    expect(said).toEqual(whole.choices.map((choice) => choice.message.content));
  });

  test("no chunk tells usage that was not asked for, though engines are asked for it with every chunk", async () => {
    const usages = async (stream_options?: object): Promise<unknown[]> => {
      const response = await fetch(`${world.url()}/v1/chat/completions`, {
        method: "POST",
        headers: { authorization: `Bearer ${world.key}`, "content-type": "application/json" },
        body: JSON.stringify({ ...ask, n: 2, stream: true, ...(stream_options === undefined ? {} : { stream_options }) }),
      });
      const lines = (await response.text()).split("\n").filter((line) => line.startsWith("data: {"));
      return lines.map((line) => JSON.parse(line.slice(6)) as { usage?: unknown; choices: unknown[] }).filter((chunk) => "usage" in chunk);
    };
    expect(await usages()).toEqual([]);
    expect(await usages({ include_usage: false, continuous_usage_stats: true })).toEqual([]);
    expect(await usages({ include_usage: true, continuous_usage_stats: true })).toEqual([expect.objectContaining({ choices: [] })]);
  });

  test("a tool call, streamed and not, is the same call", async () => {
    const parameters = { type: "object", properties: { place: { type: "string" } }, required: ["place"] };
    const tools = [{ type: "function" as const, function: { name: "look", parameters } }];
    const asked = { ...ask, max_tokens: 64, tools, tool_choice: "required" as const };
    const whole = await client.chat.completions.create(asked);
    const [call] = whole.choices[0]?.message.tool_calls ?? [];
    expect(whole.choices[0]?.finish_reason).toBe("tool_calls");
    expect(call).toMatchObject({ type: "function", function: { name: "look" } });
    const streamed = await client.chat.completions.stream(asked).finalChatCompletion();
    expect(streamed.choices[0]?.message.tool_calls?.[0]).toMatchObject({
      type: "function",
      function: (call as { function: object }).function,
    });
  });

  test("what the edge says a call is for stands in the books; a client cannot say it", async () => {
    const context = { program: "run_7", run: "run_7", function: "fn_7", step: "ask", agent: "router", deadline_ms: 30_000 };
    const headers = { "x-millrace-context": Buffer.from(JSON.stringify(context)).toString("base64url") };
    const edge = new OpenAI({ baseURL: `${world.url()}/v1`, apiKey: await world.token(), maxRetries: 0 });
    const [first, second] = await Promise.all([1, 2].map(() => edge.chat.completions.create(ask, { headers })));
    // The same step of the same run is one call, however often it is sent.
    expect(first?.id).toBe(second?.id);
    const foreign = await client.chat.completions.create(ask, { headers });
    expect(foreign.id).not.toBe(first?.id);
    await fetch(`${world.url()}/internal/settle`, { method: "POST", headers: { authorization: `Bearer ${world.key}` } });
    const rows = await world.sql`select run, function, agent, outcome from calls where run is not null or agent is not null`;
    expect([...rows]).toEqual([{ run: "run_7", function: "fn_7", agent: "router", outcome: "done" }]);
  });
});
