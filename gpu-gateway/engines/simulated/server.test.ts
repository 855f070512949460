/** The simulated instance, spoken to as a client of vLLM would: what it imitates, and what its README promises. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { SIMULATED_MAIN, launchSimulated } from "./launch.ts";
import type { Launched } from "./launch.ts";

const SPEED = 20;
const LEASE_MS = 400;
const MODEL = "llama-3-8b";

type Json = Record<string, unknown>;
type Answer = {
  id: string;
  choices: {
    message: { content: string | null; tool_calls?: { function: { name: string; arguments: string } }[] };
    text: string;
    finish_reason: string;
  }[];
  usage: { prompt_tokens: number; completion_tokens: number; prompt_tokens_details: { cached_tokens: number } };
  kv_transfer_params: (Json & { remote_block_ids: number[][] }) | null;
  error?: { message: string; code: number; type: string };
};

const post = async (url: string, path: string, body: object, headers: Record<string, string> = {}) => {
  const response = await fetch(url + path, { method: "POST", headers, body: JSON.stringify(body) });
  return { status: response.status, body: (await response.json()) as Answer };
};
const chat = (url: string, content: string, more: Json = {}) =>
  post(url, "/v1/chat/completions", { model: MODEL, messages: [{ role: "user", content }], ...more });
const contentOf = (answer: Answer) => answer.choices[0]!.message.content ?? "";
type Stats = { running: number; held: number; kv_blocks_used: number; aborted: number; kv_expired: number };
const statsOf = async (url: string) => (await (await fetch(`${url}/sim/stats`)).json()) as Stats;
/** Asks until it is so; the test's own timeout ends it. */
const until = async (url: string, holds: (stats: Stats) => boolean) => {
  while (!holds(await statsOf(url)));
};
const leg1 = async (url: string, content: string) =>
  (await chat(url, content, { max_tokens: 1, kv_transfer_params: { do_remote_decode: true } })).body.kv_transfer_params!;

let prefill: Launched;
let decode: Launched;
beforeAll(async () => {
  const shared = { speed: SPEED, sim_control: true, kv_lease_ms: LEASE_MS };
  [prefill, decode] = await Promise.all([launchSimulated({ ...shared, role: "prefill" }), launchSimulated({ ...shared, role: "decode" })]);
});
afterAll(async () => {
  await Promise.all([prefill.stop(), decode.stop()]);
});

describe("text", () => {
  test("says that it is simulated, and what it was asked; the same question gets the same answer", async () => {
    const { body } = await chat(decode.url, "How do water mills grind?");
    expect(contentOf(body)).toMatch(/^\[simulated llama-3-8b\] You asked: How do water mills grind\./);
    expect(contentOf((await chat(decode.url, "How do water mills grind?")).body)).toBe(contentOf(body));
    expect(contentOf((await chat(decode.url, "How do wind mills grind?")).body)).not.toBe(contentOf(body));
    expect(contentOf((await chat(decode.url, "How do water mills grind?", { seed: 5 })).body)).not.toBe(contentOf(body));
  });
  test("is 16 to 120 tokens long, at most max_tokens, exactly max_tokens with ignore_eos", async () => {
    for (let i = 0; i < 10; i++) {
      const { body } = await chat(decode.url, `Question ${i}`);
      expect(body.usage.completion_tokens).toBeGreaterThanOrEqual(16);
      expect(body.usage.completion_tokens).toBeLessThanOrEqual(120);
      expect(body.choices[0]?.finish_reason).toBe("stop");
    }
    const cut = (await chat(decode.url, "Cut me", { max_tokens: 7 })).body;
    expect([cut.usage.completion_tokens, cut.choices[0]?.finish_reason]).toEqual([7, "length"]);
    const long = (await chat(decode.url, "Go on", { max_completion_tokens: 300, ignore_eos: true })).body;
    expect([long.usage.completion_tokens, long.choices[0]?.finish_reason]).toEqual([300, "length"]);
  });
  test("chooses from what is offered", async () => {
    const asked = "Who can help with a contract on a vineyard?\nChoose from: history, maths, law, food, music";
    const said = /I choose: (.*)\.$/.exec(contentOf((await chat(decode.url, asked)).body))?.[1]?.split(", ") ?? [];
    expect([2, 3]).toContain(said.length);
    for (const name of said) expect(["history", "maths", "law", "food", "music"]).toContain(name);
    expect(contentOf((await chat(decode.url, "Choose from: solo")).body)).toBe("[simulated llama-3-8b] I choose: solo.");
  });
  test("stops before a stop string", async () => {
    const { body } = await chat(decode.url, "Please stop", { stop: [" asked", "zzz"] });
    expect([contentOf(body), body.choices[0]?.finish_reason]).toEqual(["[simulated llama-3-8b] You", "stop"]);
  });
  test("a forced tool is called with arguments that fit its schema; an offered one is not", async () => {
    const parameters = {
      type: "object",
      properties: { city: { type: "string" }, unit: { enum: ["C", "F"] }, days: { type: "integer" } },
      required: ["city", "unit", "days"],
    };
    const tools = [{ type: "function", function: { name: "weather", parameters } }];
    for (const tool_choice of ["required", { type: "function", function: { name: "weather" } }]) {
      const { body } = await chat(decode.url, "Weather?", { tools, tool_choice });
      expect(body.choices[0]?.finish_reason).toBe("tool_calls");
      const call = body.choices[0]?.message.tool_calls?.[0]?.function;
      expect(call?.name).toBe("weather");
      const args = JSON.parse(call?.arguments ?? "") as Json;
      expect(args["city"]).toBe("simulated");
      expect(["C", "F"]).toContain(args["unit"]);
      expect(Number.isInteger(args["days"])).toBe(true);
    }
    expect(contentOf((await chat(decode.url, "Weather?", { tools, tool_choice: "auto" })).body)).toContain("[simulated");
  });
  test("response_format json is JSON", async () => {
    const schema = { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"] };
    const format = { type: "json_schema", json_schema: { name: "x", schema } };
    expect(typeof JSON.parse(contentOf((await chat(decode.url, "JSON", { response_format: format })).body)).ok).toBe("boolean");
    expect(JSON.parse(contentOf((await chat(decode.url, "JSON", { response_format: { type: "json_object" } })).body)).simulated).toBe(true);
  });
  test("tokens are counted alike everywhere", async () => {
    const messages = [{ role: "user", content: "Grüße, 日本語 🌊🌊🌊 and words" }];
    const { body } = await post(decode.url, "/v1/chat/completions", { model: MODEL, messages });
    const count = async (asked: object) =>
      ((await (await fetch(`${decode.url}/tokenize`, { method: "POST", body: JSON.stringify(asked) })).json()) as { count: number }).count;
    expect(await count({ messages })).toBe(body.usage.prompt_tokens);
    expect(await count({ prompt: contentOf(body) })).toBe(body.usage.completion_tokens);
    expect(await count({ prompt: "12345" })).toBe(2);
  });
  test("a stream is the same answer in pieces, usage last if asked", async () => {
    const messages = [{ role: "user", content: "In pieces 🌊" }];
    const whole = (await post(decode.url, "/v1/chat/completions", { model: MODEL, messages })).body;
    const body = JSON.stringify({ model: MODEL, messages, stream: true, stream_options: { include_usage: true } });
    const events = (await (await fetch(`${decode.url}/v1/chat/completions`, { method: "POST", body })).text()).trim().split("\n\n");
    expect(events.pop()).toBe("data: [DONE]");
    const chunks = events.map((event) => JSON.parse(event.slice(6)) as { choices: { delta: { content: string } }[]; usage?: object });
    expect(chunks.pop()?.usage).toEqual(whole.usage);
    expect(chunks.map((chunk) => chunk.choices[0]?.delta.content).join("")).toBe(contentOf(whole));
  });
});

describe("two legs", () => {
  test("parameters have the recorded shape; cached tokens are prefill's", async () => {
    const content = "The same long beginning of a conversation. ".repeat(6);
    await leg1(prefill.url, content);
    const params = await leg1(prefill.url, content);
    expect(params).toMatchObject({
      do_remote_prefill: true,
      do_remote_decode: false,
      remote_engine_id: prefill.engine_id,
      remote_host: "127.0.0.1",
      tp_size: 1,
      remote_blocks_expiry_time: null,
      transfer_mode: "pull",
    });
    expect(params["remote_prefill_cached_tokens"]).toBeGreaterThan(0);
    const { body } = await chat(decode.url, content, { max_tokens: 4, kv_transfer_params: params });
    expect(body.usage.prompt_tokens_details.cached_tokens).toBe(params["remote_prefill_cached_tokens"]);
    expect(body.kv_transfer_params).toBeNull();
  });
  test("without a decode leg the blocks go when the lease ends; then a decode leg is an error, never wrong text", async () => {
    const before = (await statsOf(prefill.url)).kv_expired;
    const params = await leg1(prefill.url, "Nobody will fetch this");
    expect((await statsOf(prefill.url)).held).toBeGreaterThan(0);
    await until(prefill.url, (stats) => stats.held === 0 && stats.kv_blocks_used === 0);
    expect((await statsOf(prefill.url)).kv_expired).toBeGreaterThan(before);
    const late = await chat(decode.url, "Nobody will fetch this", { kv_transfer_params: params });
    expect([late.status, late.body.error?.type]).toEqual([500, "InternalServerError"]);
  });
  test("a streamed decode leg that cannot pull: 200, role, error event, [DONE]", async () => {
    const params = { ...(await leg1(prefill.url, "Wrong engine")), remote_engine_id: "00000000-0000-0000-0000-000000000000" };
    const body = { model: MODEL, messages: [{ role: "user", content: "Wrong engine" }], stream: true, kv_transfer_params: params };
    const response = await fetch(`${decode.url}/v1/chat/completions`, { method: "POST", body: JSON.stringify(body) });
    const events = (await response.text()).trim().split("\n\n");
    expect([response.status, events.length, events[2]]).toEqual([200, 3, "data: [DONE]"]);
    expect(events[0]).toContain('"role":"assistant"');
    expect(JSON.parse(events[1]!.slice(6))).toEqual({
      error: { message: "Internal server error", type: "InternalServerError", param: null, code: 500 },
    });
  });
  test("a refused decode leg lets prefill's blocks go", async () => {
    await until(prefill.url, (stats) => stats.held === 0); // of the tests before
    const before = (await statsOf(prefill.url)).kv_expired;
    const params = await leg1(prefill.url, "Refused");
    expect((await chat(decode.url, "Refused", { max_tokens: 100_000, kv_transfer_params: params })).status).toBe(400);
    await until(prefill.url, (stats) => stats.held === 0);
    expect((await statsOf(prefill.url)).kv_expired).toBe(before);
  });
  test("what vLLM refuses on the prefill leg", async () => {
    const kv_transfer_params = { do_remote_decode: true };
    const refused = async (more: Json) => (await chat(prefill.url, "x", { max_tokens: 1, kv_transfer_params, ...more })).status;
    expect(await refused({ min_tokens: 5 })).toBe(400);
    expect(await refused({ stream: false, stream_options: { include_usage: true } })).toBe(400);
    expect(await refused({ kv_transfer_params: "oops" })).toBe(400);
    expect(await refused({ cache_salt: "" })).toBe(400);
    expect(await refused({ priority: "high" })).toBe(400);
    expect(await refused({ model: "nope" })).toBe(404);
  });
  test.each([
    ["remote_block_ids missing", { remote_block_ids: undefined }],
    ["remote_block_ids flat", { remote_block_ids: [1, 2] }],
    ["remote_block_ids empty", { remote_block_ids: [[]] }],
  ])("as on vLLM, the whole decode engine dies of: %s", async (_title, changed) => {
    const victim = await launchSimulated({ role: "decode", speed: SPEED });
    const good: Record<string, unknown> = { do_remote_prefill: true, remote_block_ids: [[1]], remote_host: "127.0.0.1", remote_port: 1 };
    const params = { ...good, ...changed };
    const answer = await chat(victim.url, "Bad parameters", { kv_transfer_params: params });
    expect([answer.status, answer.body.error?.message]).toEqual([500, expect.stringContaining("EngineCore")]);
    expect((await fetch(`${victim.url}/health`)).status).toBe(503);
    await expect(victim.ended).resolves.toBe(1);
  });
});

describe("models on several GPUs", () => {
  test("a 70B at TP 4: named, as wide as its hand-over says, as slow as its profile", async () => {
    const wide = await launchSimulated({ model: "llama-3-70b", tp: 4, speed: SPEED });
    const body = { model: "llama-3-70b", messages: [{ role: "user", content: "Wide" }], max_tokens: 1 };
    const { body: answer } = await post(wide.url, "/v1/chat/completions", { ...body, kv_transfer_params: { do_remote_decode: true } });
    expect(answer.kv_transfer_params).toMatchObject({ tp_size: 4, pp_size: 1 });
    const { data } = (await (await fetch(`${wide.url}/v1/models`)).json()) as { data: { id: string; max_model_len: number }[] };
    expect(data[0]).toMatchObject({ id: "llama-3-70b", max_model_len: 8_192 });
    await wide.stop();
  });
  test("two hand-overs out of one instance share its link: they take as long as their bytes together", async () => {
    const slow = await launchSimulated({ role: "prefill", speed: 0.05 }); // 1 ms of model time is 20 ms
    const held = await Promise.all(["One", "Two"].map((text) => leg1(slow.url, text)));
    const told = (params: Json, path: string, more: Json) => {
      const { remote_engine_id: engine_id, remote_request_id: request_id, remote_block_ids: groups, remote_port } = params;
      const body = JSON.stringify({ engine_id, request_id, block_ids: (groups as number[][])[0], ...more });
      return fetch(`http://127.0.0.1:${String(remote_port)}${path}`, { method: "POST", body });
    };
    const began = performance.now();
    const wanted = { puller: { engine_id: "another", gpus: 1 }, bytes: 1.5e9 }; // 5 ms alone
    await Promise.all(held.map((params) => told(params, "/kv/pull", wanted)));
    const answers = await Promise.all(held.map((params) => told(params, "/kv/done", {})));
    expect(answers.map((answer) => answer.status)).toEqual([200, 200]);
    expect(performance.now() - began).toBeGreaterThan((1 + 10) * 20 - 1); // handshake, and 3 GB at 300 GB/s
    await slow.stop();
  });
});

describe("a process", () => {
  test("loading: listens, /health is 503 and requests too, until it is ready", async () => {
    const loading = await launchSimulated({ load_ms: 60_000 });
    expect((await fetch(`${loading.url}/health`)).status).toBe(503);
    expect((await chat(loading.url, "Too early")).status).toBe(503);
    await loading.stop();
  });
  test("a connection closed in mid-stream frees all, and is counted", async () => {
    const before = (await statsOf(decode.url)).aborted;
    const abort = new AbortController();
    const body = JSON.stringify({
      model: MODEL,
      messages: [{ role: "user", content: "x" }],
      stream: true,
      ignore_eos: true,
      max_tokens: 5_000,
    });
    const response = await fetch(`${decode.url}/v1/chat/completions`, { method: "POST", body, signal: abort.signal });
    await response.body?.getReader().read();
    expect((await statsOf(decode.url)).running).toBe(1);
    abort.abort();
    await until(decode.url, (stats) => stats.running === 0 && stats.kv_blocks_used === 0);
    expect((await statsOf(decode.url)).aborted).toBe(before + 1);
  });
  test("ends when its stdin does", async () => {
    const child = spawn(process.execPath, [SIMULATED_MAIN, "--load-ms", "0", "--exit-with-stdin"], { stdio: ["pipe", "pipe", "inherit"] });
    await once(child.stdout, "data");
    const exited = once(child, "exit");
    child.stdin.end();
    expect(await exited).toEqual([0, null]);
  });
  test("wrong flags are named together, with exit status 2", async () => {
    const args = [SIMULATED_MAIN, "--speed", "fast", "--role", "boss", "--kv-tokens", "100", "--context", "200", "--model", "gpt"];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "pipe"] });
    let text = "";
    child.stderr.on("data", (chunk) => (text += String(chunk)));
    expect((await once(child, "exit"))[0]).toBe(2);
    for (const flag of ["--speed", "--role", "--context", "--model"]) expect(text).toContain(flag);
  });
  test("test controls are there only with --sim-control", async () => {
    const plain = await launchSimulated({ speed: SPEED });
    expect((await fetch(`${plain.url}/sim/stats`)).status).toBe(404);
    expect((await fetch(`${plain.url}/sim/faults`, { method: "POST", body: '{"fault":"cut"}' })).status).toBe(404);
    await plain.stop();
  });
  test("sleeps: KV is dropped, requests wait until it is awake", async () => {
    await fetch(`${decode.url}/sleep?level=1`, { method: "POST" });
    expect(await (await fetch(`${decode.url}/is_sleeping`)).json()).toEqual({ is_sleeping: true });
    expect(await (await fetch(`${decode.url}/metrics`)).text()).toMatch(/sleep_state="weights_offloaded"\} 1/);
    const waiting = chat(decode.url, "Are you awake?", { max_tokens: 4 });
    await fetch(`${decode.url}/wake_up`, { method: "POST" });
    expect((await waiting).status).toBe(200);
    expect(await (await fetch(`${decode.url}/is_sleeping`)).json()).toEqual({ is_sleeping: false });
  });
});
