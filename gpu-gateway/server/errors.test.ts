/** What is refused at the door, and how: one status, the path's own error shape, `x-request-id`, nothing that hangs. */
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MODEL, openWorld, type World } from "../../test/support/gateway-world.ts";
import { until } from "../../test/support/until.ts";
import { ERRORS, type ErrorCode } from "../../schema/core/errors.ts";
import { BODY_BYTES_MAX, JSON_DEPTH_MAX } from "../../schema/core/wire/limits.ts";
import { revokeKey } from "../../schema/db/queries/keys/revoke-key.ts";
import { DEFAULT_PROJECT, DEFAULT_TENANT } from "../../schema/db/seed.ts";

let world: World;
beforeAll(async () => {
  world = await openWorld({ pools: [{ role: "both", groups: 1 }] });
}, 60_000);
afterAll(() => world.close(), 60_000);

type Answer = {
  status: number;
  headers: Headers;
  body: { error?: { code: string; param: string | null; type: string; message: string }; code?: string };
};
async function send(
  path: string,
  init: Omit<RequestInit, "headers"> & { key?: string | null; headers?: Record<string, string> } = {},
): Promise<Answer> {
  const { key = world.key, ...rest } = init;
  const headers = { "content-type": "application/json", ...(key === null ? {} : { authorization: `Bearer ${key}` }), ...init.headers };
  const response = await fetch(`${world.url()}${path}`, { ...rest, headers });
  return { status: response.status, headers: response.headers, body: (await response.json()) as Answer["body"] };
}
const chat = (fields: object, more: Parameters<typeof send>[1] = {}) =>
  send("/v1/chat/completions", {
    method: "POST",
    body: JSON.stringify({ model: MODEL, messages: [{ role: "user", content: "hi" }], ...fields }),
    ...more,
  });
const raw = (body: string) => send("/v1/chat/completions", { method: "POST", body });

function expectOpenAI(answer: Answer, code: ErrorCode, param: string | null = null): void {
  expect(answer.body.error).toMatchObject({ code, param });
  expect(answer.status).toBe(ERRORS[code].status);
  expect(answer.headers.get("content-type")).toBe("application/json");
  expect(answer.headers.get("x-request-id")).toMatch(/^req_[0-9a-f]{32}$/);
}

describe("the request itself", () => {
  test.each([
    ["not JSON", "{", "malformed_json", null],
    ["a byte order mark", '\uFEFF{"model":"m"}', "malformed_json", null],
    ["a number that is none", '{"model": 1e400e}', "malformed_json", null],
    ["null", "null", "invalid_request", null],
    ["a list", "[]", "invalid_request", null],
    ["nesting without end", "[".repeat(100_000), "invalid_request", null],
    ["no messages", `{"model":"${MODEL}"}`, "invalid_request", "messages"],
    ["no message", `{"model":"${MODEL}","messages":[]}`, "invalid_request", "messages"],
    ["an unknown role", `{"model":"${MODEL}","messages":[{"role":"god","content":"x"}]}`, "invalid_request", "messages.0.role"],
  ] as const)("%s", async (_, body, code, param) => expectOpenAI(await raw(body), code, param));

  test("nesting up to the limit is read, and one level more is not", async () => {
    // The body itself, then the field.
    const nested = (levels: number) =>
      raw(`{"model":"${MODEL}","messages":[{"role":"user","content":"hi"}],"max_tokens":1,"x":${"[".repeat(levels)}${"]".repeat(levels)}}`);
    expect((await nested(JSON_DEPTH_MAX - 1)).status).toBe(200);
    const deeper = await nested(JSON_DEPTH_MAX);
    expectOpenAI(deeper, "invalid_request");
    expect(deeper.body.error?.message).toContain(`deeper than ${JSON_DEPTH_MAX}`);
  });

  test.each([
    [{ n: 1_000_000 }, "n"],
    [{ max_tokens: -1 }, "max_tokens"],
    [{ max_tokens: 0 }, "max_tokens"],
    [{ max_tokens: 2 ** 31 }, "max_tokens"],
    [{ temperature: "hot" }, "temperature"],
    [{ stop: Array.from({ length: 10_000 }, () => "x") }, "stop"],
    [{ tools: Array.from({ length: 100_000 }, () => 1) }, "tools"],
  ])("%o", async (fields, param) => {
    const answer = await chat(fields);
    expect(answer.status).toBe(400);
    expect(answer.body.error?.param).toContain(param);
  });

  test.each(["kv_transfer_params", "bootstrap_room", "cache_salt", "priority", "prompt_embeds"])(
    "%s is not for clients (I11)",
    async (field) => expectOpenAI(await chat({ [field]: 1 }), "engine_internal_field", field),
  );

  test("an unknown field is dropped", async () => {
    expect((await chat({ max_tokens: 1, no_such_field: true, __proto__: { x: 1 } })).status).toBe(200);
  });

  test("unknown model", async () => expectOpenAI(await chat({ model: "no/such" }), "model_not_found", "model"));
  test("longer than the context", async () => expectOpenAI(await chat({ max_tokens: 131_072 }), "context_too_long"));

  test("a body of 10 MB is answered, not reset", async () => {
    expectOpenAI(await raw("x".repeat(10_000_000)), "body_too_large");
    const stream = new ReadableStream({
      start(controller) {
        for (let sent = 0; sent <= BODY_BYTES_MAX; sent += 65_536) controller.enqueue(new Uint8Array(65_536));
        controller.close();
      },
    });
    expectOpenAI(
      await send("/v1/chat/completions", { method: "POST", body: stream, duplex: "half" } as Parameters<typeof send>[1]),
      "body_too_large",
    );
  });

  test("another content type, a compressed body", async () => {
    expectOpenAI(await chat({}, { headers: { "content-type": "text/plain" } }), "unsupported_media_type");
    expectOpenAI(await chat({}, { headers: { "content-encoding": "gzip" } }), "unsupported_media_type");
  });
});

describe("who asks", () => {
  test("no key", async () => expectOpenAI(await chat({}, { key: null }), "missing_key"));
  test.each(["mr_0123456789abcdef_x", "' or 1=1 --", "sk-foreign", "a.b.c"])("%s", async (key) =>
    expectOpenAI(await chat({}, { key }), "invalid_key"),
  );
  test("two keys at once are none", async () => {
    const text = await exchange(
      `GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${world.key}\r\nAuthorization: Bearer ${world.key}\r\nConnection: close\r\n\r\n`,
    );
    expect(text).toMatch(/^HTTP\/1.1 401 /);
  });
  test("a token of another cell", async () => {
    const [head, claims] = (await world.token()).split(".");
    expectOpenAI(await chat({}, { key: `${head}.${claims}.${"A".repeat(43)}` }), "invalid_key");
  });
  test("what is the whole cell's is not for every key that may read usage", async () => {
    const { text: reader } = await world.makeKey(["infer", "usage"]);
    expect((await send("/admin/state", { key: reader })).body.code).toBe("insufficient_scope");
    expect((await send("/internal/settle", { method: "POST", key: reader })).body.code).toBe("insufficient_scope");
    expect((await send("/admin/state", { key: await world.token({ scopes: ["usage"] }) })).body.code).toBe("insufficient_scope");
    // The edge asks on behalf of a key that may read usage.
    expect((await send("/internal/settle", { method: "POST", key: await world.token({ scopes: ["usage"] }) })).status).toBe(200);
    expect((await send("/internal/settle", { method: "POST" })).status).toBe(200);
    expect((await send("/admin/state")).status).toBe(200);
  });

  test("a key without the scope", async () => {
    const { text } = await world.makeKey(["usage"]);
    expectOpenAI(await chat({}, { key: text }), "insufficient_scope");
  });
  test("a revoked key, within the poll", async () => {
    const { key, text } = await world.makeKey(["infer"]);
    expect((await chat({ max_tokens: 1 }, { key: text })).status).toBe(200);
    await revokeKey(world.sql, { tenant: DEFAULT_TENANT, project: DEFAULT_PROJECT, key });
    const answer = await until("the key to be refused", async () => {
      const tried = await chat({ max_tokens: 1 }, { key: text });
      return tried.status === 200 ? null : tried;
    });
    expectOpenAI(answer, "revoked_key");
  });
});

describe("paths", () => {
  test("nothing there", async () => {
    expectOpenAI(await send("/v1/nothing"), "not_found");
    const elsewhere = await send("/nothing");
    expect(elsewhere).toMatchObject({ status: 404, body: { code: "not_found" } });
    expect(elsewhere.headers.get("content-type")).toBe("application/problem+json");
  });
  test("another method", async () => {
    const answer = await send("/v1/chat/completions");
    expectOpenAI(answer, "method_not_allowed");
    expect(answer.headers.get("allow")).toBe("POST");
  });
  test("the engines' own paths do not exist here", async () => {
    for (const path of ["/sleep", "/wake_up", "/collective_rpc", "/reset_prefix_cache", "/pause", "/sim/stats"])
      expect((await send(path, { method: "POST" })).status).toBe(404);
  });
  test("models, also with a slash in the name", async () => {
    expect(await send("/v1/models")).toMatchObject({ status: 200, body: { object: "list", data: [{ id: MODEL, object: "model" }] } });
    expect((await send(`/v1/models/${MODEL}`)).body).toMatchObject({ id: MODEL });
    expectOpenAI(await send("/v1/models/meta/llama"), "model_not_found", "model");
  });
  test("a plain GET of the link", async () => expect((await send("/link")).status).toBe(426));
  test("health and metrics need no key", async () => {
    expect(await send("/health", { key: null })).toMatchObject({ status: 200, body: { ready: true, cell: "test" } });
    const metrics = await fetch(`${world.url()}/metrics`);
    expect(metrics.headers.get("content-type")).toContain("version=0.0.4");
    expect(await metrics.text()).toContain("millrace_calls_total");
  });
});

/** What a raw socket says until the other side closes. */
function exchange(bytes: string): Promise<string> {
  const { hostname, port } = new URL(world.url());
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname, () => socket.write(bytes));
    let text = "";
    socket.on("data", (chunk) => (text += chunk.toString()));
    socket.on("close", () => resolve(text));
    socket.on("error", reject);
  });
}

describe("HTTP/1.1 on a raw socket: one clear status and a closed connection", () => {
  const head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n";
  test.each([
    ["two lengths", `${head}Content-Length: 1\r\nContent-Length: 2\r\n\r\nx`, 400],
    ["length and chunks", `${head}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
    ["a space before the colon", `${head}Content-Length : 1\r\n\r\nx`, 400],
    ["a bare line feed", "GET /v1/models HTTP/1.1\nHost: x\n\n", 400],
    ["a folded header", `${head}X-A: 1\r\n 2\r\n\r\n`, 400],
    ["a chunk size that overflows", `${head}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n`, 400],
    ["100 KB of header", `${head}X-A: ${"a".repeat(100_000)}\r\n\r\n`, 431],
    ["10,000 headers", `${head}${"X-A: 1\r\n".repeat(10_000)}\r\n`, 431],
    ["an absolute target", "GET http://elsewhere/v1/models HTTP/1.1\r\nHost: x\r\n\r\n", 400],
    ["TRACE", "TRACE /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405],
    ["no host", "GET /v1/models HTTP/1.1\r\n\r\n", 400],
  ])("%s", async (_, bytes, status) => {
    const text = await exchange(bytes);
    expect(text).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(text.match(/HTTP\/1\.1 \d/g)).toHaveLength(1);
  });
  test("without a host it says what is missing; HTTP/1.0 needs none", async () => {
    const text = await exchange("GET /v1/models HTTP/1.1\r\n\r\n");
    expect(text).toMatch(/x-request-id: req_/i);
    expect(text).toContain("the request has no Host header");
    expect(await exchange("GET /health HTTP/1.0\r\n\r\n")).toMatch(/^HTTP\/1.1 200 /);
  });
});
