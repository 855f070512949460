/** The models by OpenAI's API, before a gateway that does not answer as one should (test/support/origin-global.ts). */
import { afterEach, expect, test, vi } from "vitest";
import { a, bindings, origin, request } from "./testing.ts";

const gateway = bindings.GATEWAY_URL;
const setGateway = (url: string) => void ((bindings as { GATEWAY_URL: string }).GATEWAY_URL = url);
afterEach(() => setGateway(gateway));

const chat = (body: object) => request("POST", "/v1/chat/completions", { key: a.all, body });
async function streamed(text: string, model = "whole"): Promise<string> {
  setGateway(origin.allowed);
  const answer = await chat({ model, stream: true, messages: [{ role: "user", content: text }] });
  expect(answer.headers.get("cache-control")).toBe("no-cache, no-transform");
  return answer.text();
}

const CHUNK = 'data: {"choices":[{"delta":{"content":"one"}}]}\n\n';
/** A model's words that read like an end are none. */
const SAYS_DONE = `data: ${JSON.stringify({ choices: [{ delta: { content: 'data: [DONE]\n\ndata: {"error":' } }] })}\n\n`;

test.each([
  ["done", `${CHUNK}${SAYS_DONE}data: [DONE]\n\n`],
  ["an error", `${CHUNK}data: {"error":{"code":"engine_failed"}}\n\n`],
])("a stream that ends with %s is passed on as it is", async (_what, text) => {
  expect(await streamed(text)).toBe(text);
});

test.each([
  ["between events", CHUNK, "cut"],
  ["within an event", `${CHUNK}data: {"choi`, "cut"],
  ["by an end that is none", `${CHUNK}${SAYS_DONE}`, "whole"],
])("a stream that is cut %s ends with gateway_lost", async (_what, text, model) => {
  const got = await streamed(text, model);
  expect(got.startsWith(`${text}\n\ndata: `)).toBe(true);
  const [event, rest] = got.slice(text.length + "\n\ndata: ".length).split("\n\n");
  expect(JSON.parse(event ?? "")).toMatchObject({ error: { code: "gateway_lost" } });
  expect(rest).toBe("");
});

test("a client that leaves before the answer began: its call at the gateway ends", async () => {
  const hanging = async () => (await fetch(`${origin.allowed}/hanging`)).text();
  setGateway(origin.allowed);
  const leaving = new AbortController();
  const left = request("POST", "/v1/chat/completions", {
    key: a.all,
    body: { model: "hangs", messages: [{ role: "user", content: "hi" }] },
    signal: leaving.signal,
  }).catch((error: unknown) => error);
  await vi.waitUntil(async () => (await hanging()) === "1", { timeout: 10_000 });
  leaving.abort();
  await left;
  await vi.waitUntil(async () => (await hanging()) === "0", { timeout: 10_000 });
});
