/** SIGKILL of the gateway while OpenAI's client reads a stream through the edge: it throws; what it got is not a whole answer. */
import OpenAI from "openai";
import { expect, it } from "vitest";
import { isAlive } from "../../cli/dev/process.ts";
import { product, running } from "../support/product.ts";
import { until } from "../support/until.ts";

const TOKENS = 4_000;

it("throws gateway_lost in the client, and serves it again after", async () => {
  const { edge_url, key } = product();
  const client = new OpenAI({ baseURL: `${edge_url}/v1`, apiKey: key, maxRetries: 0 });
  const model = "llama-3-8b";
  const stream = await client.chat.completions.create({
    model,
    messages: [{ role: "user", content: "talk" }],
    max_tokens: TOKENS,
    stream: true,
    // As long as its schema asks for: it is on its way when the gateway is killed.
    response_format: { type: "json_schema", json_schema: { name: "long", schema: { const: "word".repeat(TOKENS) } } },
  });
  const { gateway } = running();
  let chunks = 0;
  const read = async () => {
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta.content && chunks++ === 0) process.kill(gateway.process.pid, "SIGKILL");
    }
  };
  await expect(read()).rejects.toMatchObject({ constructor: OpenAI.APIError, code: "gateway_lost" });
  expect(chunks).toBeGreaterThan(0);

  await until(
    "the gateway is up again",
    () => {
      const now = running().gateway.process;
      return now.pid !== gateway.process.pid && isAlive(now);
    },
    30_000,
  );
  const answers = () => client.chat.completions.create({ model, messages: [{ role: "user", content: "again" }], max_tokens: 4 });
  await until("an answer", async () => (await answers().catch(() => null))?.usage?.completion_tokens === 4, 30_000);
});
