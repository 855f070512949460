import { expect, test } from "vitest";
import type { TokenFrame } from "../../runtime/output.ts";
import { BodyCollector } from "./chunks.ts";

const token = (n: number, delta: Readonly<Record<string, unknown>>): TokenFrame => ({
  type: "token",
  n,
  choice: 0,
  delta,
  tokens: 1,
  finish_reason: null,
});

test.each(["reasoning", "reasoning_content"])("a body that was not streamed has the %s that a stream would have carried", (name) => {
  const collector = new BodyCollector();
  collector.token(token(1, { role: "assistant", [name]: "A wheel " }));
  collector.token(token(2, { [name]: "turns." }));
  collector.token(token(3, { content: "Water." }));
  const usage = { prompt_tokens: 1, cached_tokens: 0, completion_tokens: 3 };
  const done = { type: "done", n: 4, finish_reason: "stop", usage, legs: [] } as const;
  const body = collector.body("chat", { id: "chatcmpl-1", created_s: 0, model: "m" }, done);
  expect(body).toMatchObject({ choices: [{ message: { content: "Water.", [name]: "A wheel turns." } }] });
});
