/** The official client, unchanged but for base URL and key, at both doors. */
import OpenAI from "openai";
import { describe, expect, it } from "vitest";
import { product } from "../support/product.ts";

describe.each(["edge", "gateway"] as const)("the openai package through the %s", (door) => {
  const client = () => {
    const { edge_url, gateway_url, key } = product();
    return new OpenAI({ baseURL: `${door === "edge" ? edge_url : gateway_url}/v1`, apiKey: key, maxRetries: 0 });
  };
  const messages = [{ role: "user" as const, content: "What turns a mill wheel?" }];

  it("streams a chat completion, usage in the last chunk", async () => {
    const stream = await client().chat.completions.create({
      model: "llama-3-8b",
      messages,
      max_tokens: 24,
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks: OpenAI.ChatCompletionChunk[] = [];
    for await (const chunk of stream) chunks.push(chunk);
    const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
    expect(text).toContain("simulated");
    expect(new Set(chunks.map((chunk) => chunk.id)).size).toBe(1);
    expect(chunks.filter((chunk) => chunk.choices[0]?.delta.role).length).toBe(1);
    expect(chunks.filter((chunk) => chunk.choices[0]?.finish_reason).length).toBe(1);
    const last = chunks.at(-1);
    expect(last?.choices).toEqual([]);
    expect(last?.usage?.completion_tokens).toBe(24);
    expect(last?.usage?.prompt_tokens).toBeGreaterThan(0);
    expect(chunks.slice(0, -1).every((chunk) => !chunk.usage)).toBe(true);

    const whole = await client().chat.completions.create({ model: "llama-3-8b", messages, max_tokens: 24 });
    expect(whole.choices[0]?.message.content).toBe(text);
    expect(whole.usage).toMatchObject({ prompt_tokens: last?.usage?.prompt_tokens, completion_tokens: 24 });
  });

  it("completes text, lists models, calls a tool", async () => {
    const completion = await client().completions.create({ model: "llama-3-8b", prompt: "Water over", max_tokens: 8 });
    expect(completion.choices[0]?.text.length).toBeGreaterThan(0);
    const models = await client().models.list();
    expect(models.data.map((model) => model.id)).toContain("llama-3-8b");
    const call = await client().chat.completions.create({
      model: "llama-3-8b",
      messages,
      tools: [{ type: "function", function: { name: "level", parameters: { type: "object", properties: { river: { type: "string" } } } } }],
      tool_choice: "required",
    });
    expect(call.choices[0]?.finish_reason).toBe("tool_calls");
    expect(call.choices[0]?.message.tool_calls?.[0]).toMatchObject({ type: "function", function: { name: "level" } });
  });

  it("raises the client's typed errors", async () => {
    await expect(client().chat.completions.create({ model: "nobody-has-it", messages })).rejects.toMatchObject({
      constructor: OpenAI.NotFoundError,
      code: "model_not_found",
      status: 404,
    });
    await expect(client().chat.completions.create({ model: "llama-3-8b", messages: [] })).rejects.toBeInstanceOf(OpenAI.BadRequestError);
    await expect(client().withOptions({ apiKey: "mr_nonsense" }).models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
  });
});
