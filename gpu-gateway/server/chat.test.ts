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
});
