/** Runs as a client meets them, from deploy to result. */
import { expect, test } from "vitest";
import { a, deploy, events, invoke, output, request, type RunBody } from "./testing.ts";

test("deploy, invoke, result", async () => {
  await deploy("hello", "async (ctx) => ({ hello: ctx.input.name, run: ctx.run })");
  const answer = await invoke("hello", { name: "world" });
  expect(answer.status).toBe(200);
  const body = (await answer.json()) as RunBody;
  expect(body).toMatchObject({ status: "done", output: { hello: "world", run: { id: body.run, function: "hello" } } });
});

test("a model's answer, whole", async () => {
  await deploy("asks", "async (ctx) => { const r = await ctx.ai.chat(ctx.input); ctx.log('asked'); return r; }");
  const result = await output<{ text: string; usage: { completion_tokens: number } }>("asks", '{"peer":{"words":5}}');
  expect(result.usage.completion_tokens).toBe(5);
  expect(result.text.trim().split(" ")).toHaveLength(5);
});
