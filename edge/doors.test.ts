/** What is refused at the door, and how: one catalogue, problem+json, OpenAI's shape on OpenAI's paths. */
import { describe, expect, test } from "vitest";
import { ERRORS, type ErrorCode } from "../schema/core/errors.ts";
import { SCOPES, type Scope } from "../schema/core/wire/token.ts";
import { a, b, bindings, deploy, invoke, problem, request, type Problem } from "./testing.ts";

type OpenAIError = { error: { message: string; type: string; param: string | null; code: string } };
async function expectProblem(answer: Response, code: ErrorCode): Promise<Problem> {
  expect(answer.headers.get("content-type")).toBe("application/problem+json");
  const body = (await answer.json()) as Problem;
  expect([answer.status, body.status, body.code]).toEqual([ERRORS[code].status, ERRORS[code].status, code]);
  expect(body.request_id).toBe(answer.headers.get("x-request-id"));
  expect(answer.headers.get("access-control-allow-origin")).toBe("*");
  return body;
}
async function expectOpenAIError(answer: Response, status: number, code: ErrorCode): Promise<OpenAIError["error"]> {
  expect(answer.headers.get("content-type")).toBe("application/json");
  expect(answer.headers.get("x-request-id")).toMatch(/./);
  const { error } = (await answer.json()) as OpenAIError;
  expect([answer.status, error.code]).toEqual([status, code]);
  return error;
}
const CHAT = { model: "llama-3-8b", messages: [{ role: "user", content: "hi" }] };
const chat = (body: unknown, key = a.all) => request("POST", "/v1/chat/completions", { key, body });

describe("who asks", () => {
  const bad = `${a.all.slice(0, -1)}${a.all.endsWith("A") ? "B" : "A"}`;
  test.each<[string, Record<string, string>, ErrorCode]>([
    ["no key", {}, "missing_key"],
    ["an empty bearer", { authorization: "Bearer " }, "invalid_key"],
    ["another scheme", { authorization: "Basic eDp5" }, "invalid_key"],
    ["two keys", { authorization: `Bearer ${a.all}, Bearer ${b.all}` }, "invalid_key"],
    ["a mistyped key", { authorization: `Bearer ${bad}` }, "invalid_key"],
    ["SQL", { authorization: "Bearer mr_'--;drop table api_keys" }, "invalid_key"],
    ["somebody else's style of key", { authorization: "Bearer sk-proj-abc" }, "invalid_key"],
  ])("%s", async (_what, headers, code) => {
    const answer = await request("GET", "/v1/functions", { headers });
    expect(answer.headers.get("www-authenticate")).toMatch(/^Bearer/);
    await expectProblem(answer, code);
    await expectOpenAIError(await request("GET", "/v1/models", { headers }), 401, code);
  });

  test("a key in the query is no key", async () => {
    await expectProblem(await request("GET", `/v1/functions?key=${a.all}&api_key=${a.all}`), "missing_key");
  });

  test("a scope opens its own doors and no other", async () => {
    await deploy("scoped", "() => 1");
    const doors: Record<Scope, (key: string) => Promise<Response>> = {
      deploy: (key) => request("GET", "/v1/functions", { key }),
      invoke: (key) => invoke("scoped", null, { key }),
      usage: (key) => request("GET", "/v1/usage", { key }),
      admin: (key) => request("GET", "/v1/keys", { key }),
      infer: (key) => chat({}, key),
    };
    for (const door of SCOPES) {
      for (const scope of SCOPES) {
        const { status } = await doors[door](a[scope]);
        expect([door, scope, status === 403]).toEqual([door, scope, door !== scope]);
      }
    }
  });

  test("keys are made, listed without their secret, and stop within the bound once revoked", async () => {
    const made = (await (await request("POST", "/v1/keys", { key: a.all, body: { name: "short", scopes: ["deploy"] } })).json()) as {
      key: string;
      secret: string;
    };
    const use = () => request("GET", "/v1/functions", { key: made.secret });
    expect((await use()).status).toBe(200);
    const list = await (await request("GET", "/v1/keys", { key: a.all })).text();
    expect(list).toContain(made.key);
    // What follows `mr_<id>_`: it may itself hold underscores.
    expect(list).not.toContain(made.secret.slice("mr_".length + 16 + 1));
    expect((await request("DELETE", `/v1/keys/${made.key}`, { key: b.all })).status).toBe(404);
    expect((await request("DELETE", `/v1/keys/${made.key}`, { key: a.all })).status).toBe(204);
    const revoked_at = performance.now();
    let answer = await use();
    while (answer.status === 200 && performance.now() - revoked_at < 10_000) answer = await use();
    await expectProblem(answer, "revoked_key");
  });

  test("a key cannot give what it has not, nor begin expired", async () => {
    const admin = { key: a.admin, body: { name: "more", scopes: ["admin", "infer"] } };
    await expectProblem(await request("POST", "/v1/keys", admin), "insufficient_scope");
    const past = { key: a.all, body: { name: "past", scopes: ["infer"], expires_at: "2001-01-01T00:00:00Z" } };
    await expectProblem(await request("POST", "/v1/keys", past), "invalid_request");
  });
});

describe("bodies", () => {
  const post = (body: string, headers: Record<string, string> = {}) =>
    request("POST", "/v1/functions/any/invocations", { key: a.all, body, headers });
  test.each([
    ["cut off", '{"input":'],
    ["empty", " "],
    ["nested without end", `{"input":${"[".repeat(100_000)}`],
    ["a bare word", "hello"],
  ])("malformed: %s", async (_what, body) => {
    await expectProblem(await post(body), "malformed_json");
    await expectOpenAIError(await request("POST", "/v1/chat/completions", { key: a.all, body }), 400, "malformed_json");
  });

  test("invalid UTF-8", async () => {
    const body = new Uint8Array([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]);
    await expectProblem(await request("POST", "/v1/functions", { key: a.all, body }), "malformed_json");
  });

  test("null, lists and numbers are JSON, and no request", async () => {
    for (const body of ["null", "[]", "1e400"])
      await expectProblem(await request("POST", "/v1/functions", { key: a.all, body }), "invalid_request");
  });

  test("10 MB, with and without its length told", async () => {
    const large = JSON.stringify({ input: "x".repeat(10_000_000) });
    expect((await expectProblem(await post(large), "body_too_large")).detail).toContain("1048576");
    await expectOpenAIError(await request("POST", "/v1/chat/completions", { key: a.all, body: large }), 413, "body_too_large");
    const stream = new Blob([large]).stream();
    const { exports } = await import("cloudflare:workers");
    const worker = exports as unknown as { default: { fetch(request: Request): Promise<Response> } };
    const headers = { authorization: `Bearer ${a.all}`, "content-type": "application/json" };
    await expectProblem(
      await worker.default.fetch(new Request("https://edge.test/v1/functions/any/invocations", { method: "POST", body: stream, headers })),
      "body_too_large",
    );
  });

  test("another type, and compressed bodies", async () => {
    await expectProblem(await post("{}", { "content-type": "text/xml" }), "unsupported_media_type");
    await expectProblem(await post("{}", { "content-encoding": "gzip" }), "unsupported_media_type");
  });

  test("a NUL, which the database cannot hold, is refused where it would go there", async () => {
    const nul = "\u0000";
    await expectProblem(
      await request("POST", "/v1/functions", { key: a.all, body: { name: "nul", code: `export default () => "${nul}";` } }),
      "invalid_request",
    );
    await expectProblem(await request("POST", "/v1/keys", { key: a.all, body: { name: nul, scopes: ["infer"] } }), "invalid_request");
    await expectProblem(await request("DELETE", "/v1/keys/%00", { key: a.all }), "not_found");
    const invocation = { key: a.all, body: { input: null, version: nul } };
    await expectProblem(await request("POST", "/v1/functions/scoped/invocations", invocation), "function_not_found");
    await deploy("echo-nul", "(ctx) => ctx.input");
    expect(await (await invoke("echo-nul", nul)).json()).toMatchObject({ output: nul });
  });

  test("code beyond the limit", async () => {
    const answer = await request("POST", "/v1/functions", {
      key: a.all,
      body: { name: "big", code: `export default () => 1; //${"x".repeat(1_000_001)}` },
    });
    expect([400, 413]).toContain(answer.status);
  });

  test.each([
    ["a name", { name: "Not A Name", code: "x" }, "name"],
    ["a time", { name: "x", code: "x", config: { timeout_ms: -1 } }, "config.timeout_ms"],
    ["a host", { name: "x", code: "x", config: { egress: ["http://a/b"] } }, "config.egress"],
    ["the host example.com:443", { name: "x", code: "x", config: { egress: ["example.com:443"] } }, "config.egress"],
    ["the host example.com:80", { name: "x", code: "x", config: { egress: ["example.com:80"] } }, "config.egress"],
    ["the host -", { name: "x", code: "x", config: { egress: ["-"] } }, "config.egress"],
    ["the host ..", { name: "x", code: "x", config: { egress: [".."] } }, "config.egress"],
    ["the host a..b", { name: "x", code: "x", config: { egress: ["a..b"] } }, "config.egress"],
    ["the host example.com:99999", { name: "x", code: "x", config: { egress: ["example.com:99999"] } }, "config.egress"],
    ["the host 2130706433", { name: "x", code: "x", config: { egress: ["2130706433"] } }, "config.egress"],
    ["an unknown field of the configuration", { name: "x", code: "x", config: { egres: ["example.com"] } }, "config"],
    ["an isolation", { name: "x", code: "x", config: { isolation: "none" } }, "config.isolation"],
  ])("%s that is wrong is named", async (_what, body, param) => {
    expect((await expectProblem(await request("POST", "/v1/functions", { key: a.all, body }), "invalid_request")).param).toBe(param);
  });

  test("__proto__ is data", async () => {
    await deploy("proto", "async (ctx) => ({ polluted: ({}).polluted ?? null, keys: Object.keys(ctx.input) })");
    const answer = await request("POST", "/v1/functions/proto/invocations", {
      key: a.all,
      body: '{"input":{"__proto__":{"polluted":1},"constructor":2}}',
    });
    expect(await answer.json()).toMatchObject({ output: { polluted: null } });
  });
});

describe("models", () => {
  test.each(["kv_transfer_params", "bootstrap_room", "cache_salt", "priority", "prompt_embeds"])(
    "%s is not a client's to set",
    async (field) => {
      expect((await expectOpenAIError(await chat({ ...CHAT, [field]: {} }), 400, "engine_internal_field")).param).toBe(field);
    },
  );
  test.each<[string, object, string]>([
    ["no messages", { messages: [] }, "messages"],
    ["n of a million", { n: 1_000_000 }, "n"],
    ["max_tokens of -1", { max_tokens: -1 }, "max_tokens"],
    ["an unknown role", { messages: [{ role: "owner", content: "x" }] }, "messages.0.role"],
    ["10,000 stop strings", { stop: Array.from({ length: 10_000 }, () => "x") }, "stop"],
  ])("%s", async (_what, change, param) => {
    expect((await expectOpenAIError(await chat({ ...CHAT, ...change }), 400, "invalid_request")).param).toBe(param);
  });
  test("a gateway that does not answer", async () => {
    const gateway = bindings.GATEWAY_URL;
    (bindings as { GATEWAY_URL: string }).GATEWAY_URL = "http://127.0.0.1:1";
    try {
      const answer = await chat(CHAT);
      expect(answer.headers.get("retry-after")).toBe("1");
      await expectOpenAIError(answer, 503, "gateway_unavailable");
    } finally {
      (bindings as { GATEWAY_URL: string }).GATEWAY_URL = gateway;
    }
  });
});

describe("addresses", () => {
  test("nothing there, and another method", async () => {
    await expectProblem(await request("GET", "/v1/nothing", { key: a.all }), "not_found");
    const answer = await request("PUT", "/v1/functions", { key: a.all });
    expect(answer.headers.get("allow")).toBe("POST, GET, OPTIONS");
    await expectProblem(answer, "method_not_allowed");
    await expectOpenAIError(await request("GET", "/v1/chat/completions", { key: a.all }), 405, "method_not_allowed");
    await expectOpenAIError(await request("POST", "/v1/embeddings", { key: a.all, body: {} }), 404, "not_found");
    await expectOpenAIError(await request("GET", "/v1/chat/completions/more", { key: a.all }), 404, "not_found");
    await expectProblem(await request("GET", "/v1/runs/run_none", { key: a.all }), "run_not_found");
    await expectProblem(await invoke("nobody-deployed-this"), "function_not_found");
  });

  test("CORS: authorization is named, errors have it too", async () => {
    const preflight = await request("OPTIONS", "/v1/chat/completions", {
      headers: { origin: "https://x.test", "access-control-request-method": "POST" },
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get("access-control-allow-headers")).toMatch(/Authorization.*X-Stainless-Lang/);
    expect(preflight.headers.get("access-control-expose-headers")).toMatch(/x-request-id.*retry-after/);
  });

  test("a request id is kept if it is one, and made otherwise", async () => {
    expect((await request("GET", "/health", { headers: { "x-request-id": "mine-1" } })).headers.get("x-request-id")).toBe("mine-1");
    expect((await request("GET", "/health", { headers: { "x-request-id": "x y" } })).headers.get("x-request-id")).toMatch(
      /^req_[0-9a-f]{32}$/,
    );
  });

  test("the OpenAPI document has one of each schema, and every one that it names", async () => {
    const document = await (await request("GET", "/openapi.json")).json<{ components: { schemas: Record<string, object> } }>();
    const seen = new Map<string, string>();
    const named = new Set<string>();
    const walk = (value: unknown, at: string): void => {
      if (typeof value !== "object" || value === null) return;
      if ("$ref" in value) named.add(String(value.$ref));
      const text = JSON.stringify(value);
      if (!Array.isArray(value) && !at.startsWith("/paths") && text.length > 130) {
        expect([at, seen.get(text)]).toEqual([at, undefined]);
        seen.set(text, at);
      }
      for (const [key, inner] of Object.entries(value)) walk(inner, `${at}/${key}`);
    };
    walk(document, "");
    const { schemas } = document.components;
    // Under paths there are only names.
    expect(JSON.stringify({ ...document, components: {} })).not.toMatch(/"(properties|oneOf|anyOf|enum)":/);
    expect([...named].sort()).toEqual(
      Object.keys(schemas)
        .map((name) => `#/components/schemas/${name}`)
        .sort(),
    );
    // As a client sends it, and as it is answered.
    expect(schemas["deployRequest"]).toMatchObject({ required: ["name", "code"], properties: { alias: { default: "live" } } });
    expect(schemas["run"]).toMatchObject({ properties: { error: { $ref: "#/components/schemas/failure" } }, additionalProperties: false });
  });

  test("the OpenAPI document describes every route that exists", async () => {
    const document = (await (await request("GET", "/openapi.json")).json()) as {
      openapi: string;
      paths: Record<string, Record<string, { operationId: string }>>;
    };
    expect(document.openapi).toBe("3.1.0");
    const ids = Object.values(document.paths).flatMap((path) => Object.values(path).map((o) => o.operationId));
    expect(new Set(ids).size).toBe(ids.length);
    const { app } = await import("./app.ts");
    const routes = app.routes.filter((route) => route.method !== "ALL" && route.path !== "/openapi.json");
    for (const route of routes) {
      const path = route.path.replaceAll(/:(\w+)(\{[^}]*\})?/g, "{$1}");
      expect([path, Object.keys(document.paths[path] ?? {})]).toEqual([path, expect.arrayContaining([route.method.toLowerCase()])]);
    }
  });
});

describe("the usage report", () => {
  test("is empty where nothing was used, and reconciles", async () => {
    const report = (await (await request("GET", "/v1/usage?group_by=agent,model", { key: b.all })).json()) as {
      group_by: string[];
      rows: unknown[];
      reconciliation: { difference_gpu_ns: string };
    };
    expect(report).toMatchObject({ group_by: ["agent", "model"], rows: [], currency: "EUR", reconciliation: { difference_gpu_ns: "0" } });
  });
  test.each([
    "group_by=agent,model,day",
    "group_by=tenant",
    "from=yesterday",
    "from=2026-02-01&to=2026-01-01",
    "from=1970-01-01&to=9999-12-31",
    "to=-1",
    "run=%00",
    "run=",
    "session=%F0%9F%90%9F",
  ])("refuses %s", async (query) => {
    expect((await problem(request("GET", `/v1/usage?${query}`, { key: a.all }))).code).toBe("invalid_request");
  });
});
