/** The adapter's pure parts against what a real vLLM 0.32 pair sent and took. */
import { describe, expect, test } from "vitest";
import { asId } from "../../../schema/core/ids.ts";
import type { LegRequest } from "../../ports/engine.ts";
import { readChunk, readUsage } from "./answer.ts";
import { prefillBody, streamedBody } from "./bodies.ts";
import { statusFailure } from "./failure.ts";
import { checkHandover } from "./handover.ts";
import { meanOf, samplesOf, sumOf } from "./metrics.ts";

const leg = (body: Record<string, unknown>): LegRequest => ({
  leg_id: asId<"leg">("call.0.prefill"),
  request_id: "gw-42",
  role: "prefill",
  kind: "chat",
  body: { model: "tiny", messages: [{ role: "user", content: "hi" }], ...body },
  handover: null,
  cache_salt: "salt",
  accept_timeout_ms: 1_000,
});
const params = {
  do_remote_prefill: true,
  do_remote_decode: false,
  remote_block_ids: [[40, 41]],
  remote_engine_id: "5d5ec890-d78f-4b71-9438-1651d9bd0ddc",
  remote_request_id: "chatcmpl-gw-42-94cc05d4",
  remote_host: "127.0.0.1",
  remote_port: 5601,
  tp_size: 1,
  remote_num_tokens: 137,
  remote_blocks_expiry_time: null,
  transfer_mode: "pull",
  remote_prefill_cached_tokens: 0,
};
const usage = { prompt_tokens: 137, cached_tokens: 0, completion_tokens: 0 };

describe("bodies", () => {
  test("prefill: one token, not streamed, nothing that makes vLLM refuse or free the blocks", () => {
    const body = leg({ stream: true, stream_options: { include_usage: true }, max_tokens: 9, min_tokens: 5, stop: ["x"], tools: [] }).body;
    expect(JSON.parse(prefillBody({ ...leg({}), body }))).toEqual({
      model: "tiny",
      messages: [{ role: "user", content: "hi" }],
      tools: [],
      stream: false,
      max_tokens: 1,
      ignore_eos: true,
      cache_salt: "salt",
      kv_transfer_params: {
        do_remote_decode: true,
        do_remote_prefill: false,
        remote_engine_id: null,
        remote_block_ids: null,
        remote_host: null,
        remote_port: null,
      },
    });
  });
  test("prefill: max_completion_tokens where that was used, both where both were, max_tokens where neither was", () => {
    const limitsOf = (body: Record<string, unknown>) => {
      const { max_tokens, max_completion_tokens } = JSON.parse(prefillBody(leg(body))) as Record<string, unknown>;
      return [max_tokens, max_completion_tokens];
    };
    expect(limitsOf({ max_completion_tokens: 7 })).toEqual([undefined, 1]);
    expect(limitsOf({ max_completion_tokens: 7, max_tokens: 8 })).toEqual([1, 1]);
    expect(limitsOf({})).toEqual([1, undefined]);
    expect(limitsOf({ max_completion_tokens: null })).toEqual([1, undefined]);
  });
  test("decode: the original body, the parameters verbatim, streamed with usage", () => {
    const handover = { engine: "vllm", params, expires_at_ms: 0 };
    const body = JSON.parse(streamedBody(leg({ max_tokens: 9, stop: ["x"], stream: false }), handover)) as unknown;
    const kept = { max_tokens: 9, stop: ["x"], stream: true, stream_options: { include_usage: true } };
    expect(body).toMatchObject({ ...kept, cache_salt: "salt", kv_transfer_params: params });
  });
});

test("a whole leg is told its usage from the first chunk on, a decode leg at its end", () => {
  const optionsOf = (text: string) => (JSON.parse(text) as { stream_options: object }).stream_options;
  const asked = { ...leg({ stream_options: { include_usage: false } }), role: "whole" as const };
  expect(optionsOf(streamedBody(asked, null))).toEqual({ include_usage: true, continuous_usage_stats: true });
  expect(optionsOf(streamedBody(asked, { engine: "vllm", params, expires_at_ms: 0 }))).toEqual({ include_usage: true });
});

describe("what prefill returned", () => {
  const check = (changed: object) => checkHandover({ ...params, ...changed }, usage, 5).type;
  test("the recorded object is good, and travels unchanged", () => {
    expect(checkHandover(params, usage, 5)).toEqual({
      type: "ok",
      handover: { engine: "vllm", params, expires_at_ms: 5, prefill_usage: usage },
    });
    expect(check({ remote_block_ids: [[1], [2, 3]], some_new_field: 1 })).toBe("ok");
  });
  test.each([
    ["absent", undefined],
    ["null", null],
    ["a string", "oops"],
    ["a list", [params]],
    ["empty", {}],
    ["bare do_remote_prefill", { do_remote_prefill: true }],
  ])("refused: %s", (_title, value) => {
    expect(checkHandover(value, usage, 5).type).toBe("unusable");
  });
  test.each([
    { remote_block_ids: undefined },
    { remote_block_ids: [] },
    { remote_block_ids: [[]] },
    { remote_block_ids: [[1], []] },
    { remote_block_ids: [1, 2] },
    { remote_block_ids: [["1"]] },
    { remote_block_ids: [[-1]] },
    { remote_host: undefined },
    { remote_host: "" },
    { remote_port: null },
    { remote_port: "5601" },
    { remote_port: 0 },
    { remote_port: 70_000 },
    { remote_engine_id: null },
    { remote_request_id: undefined },
    { do_remote_prefill: "true" },
  ])("refused: %j", (changed) => {
    expect(check(changed)).toBe("unusable");
  });
});

describe("chunks", () => {
  const recorded = {
    role: '{"id":"chatcmpl-gw-42","object":"chat.completion.chunk","created":1,"model":"tiny","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null,"prompt_text":null}',
    token:
      '{"id":"chatcmpl-gw-42","choices":[{"index":0,"delta":{"content":"var"},"logprobs":null,"finish_reason":null,"token_ids":[7]}],"kv_transfer_params":{"remote_host":"10.0.0.1"}}',
    last: '{"id":"chatcmpl-gw-42","choices":[{"index":0,"delta":{"content":"UL"},"logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":null}]}',
    usage:
      '{"id":"chatcmpl-gw-42","choices":[],"usage":{"prompt_tokens":137,"total_tokens":145,"completion_tokens":8,"prompt_tokens_details":{"cached_tokens":0,"created_cache_tokens":0}},"system_fingerprint":"vllm-0.32.0-91f96b9a"}',
    text: '{"id":"cmpl-861","object":"text_completion","choices":[{"index":0,"text":" J","logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}]}',
  };
  test("the opening chunk is no token; a token is one, with OpenAI's fields alone", () => {
    const id = "chatcmpl-gw-42";
    expect(readChunk(recorded.role)).toEqual({
      type: "chunk",
      id,
      deltas: [{ choice: 0, delta: { role: "assistant", content: "" }, tokens: 0, finish_reason: null }],
      usage: null,
    });
    expect(readChunk(recorded.token)).toEqual({
      type: "chunk",
      id,
      deltas: [{ choice: 0, delta: { content: "var" }, tokens: 1, finish_reason: null }],
      usage: null,
    });
    expect(readChunk(recorded.last)).toMatchObject({ deltas: [{ finish_reason: "length", tokens: 1 }] });
    expect(readChunk(recorded.text)).toMatchObject({ deltas: [{ delta: { content: " J" } }] });
  });
  test("usage", () => {
    expect(readChunk(recorded.usage)).toMatchObject({ deltas: [], usage: { prompt_tokens: 137, cached_tokens: 0, completion_tokens: 8 } });
    expect(readUsage({ prompt_tokens: 5, completion_tokens: 1, prompt_tokens_details: null })?.cached_tokens).toBe(0);
    for (const bad of [{ prompt_tokens: -1 }, { prompt_tokens: 1.5 }, { prompt_tokens: "5" }, { prompt_tokens: 1e30 }, {}, null]) {
      expect(readUsage(bad)).toBeNull();
    }
    expect(readUsage({ prompt_tokens: 5, prompt_tokens_details: { cached_tokens: 99_999 } })).toBeNull();
  });
  test("tool calls and reasoning pass, unknown finish reasons become stop", () => {
    const call = { index: 0, id: "t1", type: "function", function: { name: "f", arguments: "{", junk: 1 }, junk: 2 };
    const choice = { index: 1, delta: { tool_calls: [call], reasoning_content: "hm", secret: 3 }, finish_reason: "repetition" };
    expect(readChunk(JSON.stringify({ id: "x", choices: [choice] }))).toMatchObject({
      deltas: [
        {
          choice: 1,
          finish_reason: "stop",
          delta: {
            reasoning_content: "hm",
            tool_calls: [{ index: 0, id: "t1", type: "function", function: { name: "f", arguments: "{" } }],
          },
        },
      ],
    });
  });
  test.each(["{", "[]", "null", "7", '{"choices":7}', '{"choices":[null]}', '{"choices":[{"index":-1}]}'])("a fault: %s", (text) => {
    expect(readChunk(text).type).toBe("fault");
  });
  test("an error in a 200 stream", () => {
    const text = '{"error": {"message": "Internal server error", "type": "InternalServerError", "param": null, "code": 500}}';
    expect(readChunk(text)).toEqual({ type: "error", status: 500 });
  });
});

test("how failing is called: refusals carry the engine's words, faults do not", () => {
  const body = (message: string, param: string | null) => JSON.stringify({ error: { message, type: "BadRequestError", param, code: 400 } });
  const long = "This model's maximum context length is 2048 tokens.";
  expect(statusFailure(400, body(long, "input_tokens"), false).failure.code).toBe("context_too_long");
  expect(statusFailure(400, body("no such thing", "tools"), false)).toEqual({
    cause: "rejected",
    failure: { code: "engine_rejected", detail: "no such thing", param: "tools" },
  });
  expect(statusFailure(404, body("The model `nope` does not exist.", "model"), false).failure.code).toBe("model_not_found");
  expect(statusFailure(500, body("stack trace", null), false)).toMatchObject({ cause: "status", failure: { code: "engine_failed" } });
  expect(statusFailure(500, "", true).cause).toBe("kv_lost");
  expect(statusFailure(503, "", true)).toMatchObject({ cause: "status", failure: { code: "no_capacity" } });
  expect(JSON.stringify(statusFailure(500, body("stack trace", null), false))).not.toContain("stack trace");
});

test("metrics: sums over data-parallel engines, exact names, labels with escapes", () => {
  const text = [
    "# HELP vllm:num_requests_running Number",
    'vllm:num_requests_running{engine="0",model_name="a,b=\\"c\\""} 3.0',
    'vllm:num_requests_running{engine="1",model_name="x"} 4',
    'vllm:num_requests_running_total{engine="0"} 99',
    'vllm:kv_cache_usage_perc{engine="0"} 0.25',
    'vllm:kv_cache_usage_perc{engine="1"} 0.75',
    "vllm:broken{",
  ].join("\n");
  expect(sumOf(text, "vllm:num_requests_running")).toBe(7);
  expect(meanOf(text, "vllm:kv_cache_usage_perc")).toBe(0.5);
  expect(samplesOf(text, "vllm:num_requests_running")[0]?.labels["engine"]).toBe("0");
  expect(meanOf(text, "vllm:absent")).toBe(0);
});
