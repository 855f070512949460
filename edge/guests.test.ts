/** Guests that misbehave, and what they can reach: each is stopped with a clear error, and others are unaffected (D8, I10). */
import { describe, expect, test } from "vitest";
import { RESULT_BYTES_MAX } from "../schema/core/wire/guest.ts";
import wrangler_toml from "../wrangler.toml?raw";
import { a, b, bindings, deploy, invoke, origin, output, problem, request, sse, type RunBody } from "./testing.ts";

const SHORT = { timeout_ms: 300 };

describe("a guest that does not end well", () => {
  test.each([
    ["never settles", "() => new Promise(() => {})", 504, "function_timeout", /./],
    ["polls for ever", "async () => { for (;;) await new Promise((r) => setTimeout(r, 20)); }", 504, "function_timeout", /300 ms/],
    [
      "waits for ever beside a timer",
      "async () => { setInterval(() => {}, 50); await new Promise(() => {}); }",
      504,
      "function_timeout",
      /300 ms/,
    ],
    ["throws", "() => { throw new RangeError('too far'); }", 500, "function_threw", /^RangeError: too far \(function\.js:\d+:\d+\)$/],
    ["throws later", "async () => { await null; null.x; }", 500, "function_threw", /^TypeError: .* \(function\.js:\d+:\d+\)$/],
    ["throws no error", "() => { throw { secret: 1 }; }", 500, "function_threw", /threw a object that is no Error/],
    ["throws a hostile error", "() => { throw new Proxy(new Error('x'), { get() { throw 1; } }); }", 500, "function_threw", /./],
    ["returns a function", "() => ({ f: () => 1 })", 500, "result_not_serializable", /output\.f is a function/],
    ["returns a cycle", "() => { const x = {}; x.x = x; return x; }", 500, "result_not_serializable", /output\.x contains itself/],
    ["returns a BigInt", "() => [1n]", 500, "result_not_serializable", /output\[0\] is a BigInt/],
    ["returns an instance", "() => ({ at: new Date(0) })", 500, "result_not_serializable", /output\.at is an instance of Date/],
    ["returns a capability", "(ctx) => ({ ai: ctx.ai })", 500, "result_not_serializable", /output\.ai\.chat is a function/],
    ["returns too much", "() => 'x'.repeat(1_100_000)", 500, "result_not_serializable", /the limit is 1048576/],
    ["makes up a code", "() => { throw new MillraceError('invalid_key', 'let me in'); }", 500, "function_threw", /let me in/],
  ])("%s", async (what, handler, status, code, detail) => {
    const name = `ill-${what.replaceAll(" ", "-").toLowerCase()}`;
    await deploy(name, handler, { config: SHORT });
    const answer = await invoke(name);
    const body = await problem(answer);
    expect([answer.status, body.code]).toEqual([status, code]);
    expect(body.detail).toMatch(detail);
    expect(body.detail).not.toMatch(/\/work|file:|node_modules|\.ts\b/);
    const run = (await (await request("GET", `/v1/runs/${body.run}`, { key: a.all })).json()) as RunBody;
    expect(run).toMatchObject({ status: "failed", error: { code } });
  });

  test.each([
    [
      "endless",
      "if (sent++ < 300) body.enqueue(new Uint8Array(1_048_576).fill(32)); else body.close();",
      "result_not_serializable",
      /the limit is 1048576/,
    ],
    ["silent", "return new Promise(() => {});", "function_timeout", /./],
  ])("an %s answer of its own making is not read to its end", async (what, pull, code, detail) => {
    await deploy(`answers-${what}`, "() => 1", {
      before: `let sent = 0;
        const Real = globalThis.Response;
        globalThis.Response = class {
          constructor() { return new Real(new ReadableStream({ pull(body) { ${pull} } })); }
        };`,
      config: { timeout_ms: 2_000 },
    });
    const body = await problem(invoke(`answers-${what}`));
    expect(body.code).toBe(code);
    expect(body.detail).toMatch(detail);
  });

  test.each([
    ["deep", `'{"ok":true,"output":' + "[".repeat(200_000) + "]".repeat(200_000) + "}"`, "result_not_serializable", /deeper than 256/],
    ["detailed in no text", `'{"ok":false,"kind":"threw","detail":{"toString":[1]}}'`, "function_threw", /./],
    ["empty", `'{"ok":false}'`, "function_threw", /./],
    ["no object", "'null'", "function_threw", /without an answer of the kind/],
    ["cut off", "'{\"ok\":'", "function_threw", /without an answer of the kind/],
  ])("an answer of its own making that is %s is the function's failure, not ours", async (what, text, code, detail) => {
    const name = `forges-${what.replaceAll(" ", "-")}`;
    await deploy(name, "() => 1", {
      before: `const Real = globalThis.Response; globalThis.Response = class { constructor() { return new Real(${text}); } };`,
    });
    const body = await problem(invoke(name));
    expect(body.code).toBe(code);
    expect(body.detail).toMatch(detail);
    const run = (await (await request("GET", `/v1/runs/${body.run}`, { key: a.all })).json()) as RunBody;
    expect(run).toMatchObject({ status: "failed", error: { code } });
  });

  test.each([
    ["at", 0, 200, undefined],
    ["a byte beyond", 1, 500, "result_not_serializable"],
  ])("an answer of its own making %s the limit on bytes", async (_what, beyond, status, code) => {
    // Characters of two bytes: bytes are counted.
    const head = '{"ok":true,"output":"';
    const letters = Math.floor((RESULT_BYTES_MAX - head.length - 2) / 2);
    const rest = RESULT_BYTES_MAX - head.length - 2 - 2 * letters + beyond;
    await deploy("forges-much", "() => 1", {
      before: `const Real = globalThis.Response;
        const text = ${JSON.stringify(head)} + "é".repeat(${letters}) + "x".repeat(${rest}) + '"}';
        globalThis.Response = class { constructor() { return new Real(text); } };`,
    });
    const answer = await invoke("forges-much");
    expect(answer.status).toBe(status);
    const body = await answer.json<Partial<RunBody & { code: string; detail: string }>>();
    expect(body.code).toBe(code);
    if (code !== undefined) expect(body.detail).toBe(`The output is ${RESULT_BYTES_MAX + beyond} bytes; the limit is ${RESULT_BYTES_MAX}.`);
    else expect(String(body.output)).toHaveLength(letters + rest);
  });

  test("stops when its time is over, and its capabilities with it", async () => {
    await deploy(
      "lingers",
      `async (ctx) => {
        const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
        if (ctx.input === "look") { const before = turns; await pause(60); return { before, after: turns, denied }; }
        for (;;) { turns += 1; await pause(5); try { await ctx.memory.set("still", "here"); } catch (error) { denied = error.code; } }
      }`,
      { before: "let turns = 0; let denied = null;", config: SHORT },
    );
    expect((await problem(invoke("lingers"))).code).toBe("function_timeout");
    const seen = await output<{ before: number; after: number; denied: string | null }>("lingers", "look");
    expect(seen.before).toBeGreaterThan(0);
    expect(seen.after).toBe(seen.before);
  });

  test("others go on meanwhile", async () => {
    await deploy("stuck", "() => new Promise(() => {})", { config: SHORT });
    await deploy("fine", "() => 'fine'");
    const stuck = invoke("stuck");
    expect(await output("fine")).toBe("fine");
    expect((await stuck).status).toBe(504);
  });

  test.each([
    ["is no JavaScript", "export default {{{"],
    ["has no default export", "export const x = 1;"],
    ["exports an object", "export default { fetch() {} };"],
    ["imports what is not there", 'import "fs-extra"; export default () => 1;'],
    ["throws while it loads", "throw new Error('at load'); export default () => 1;"],
  ])("a module that %s is refused at deploy", async (_what, code) => {
    const answer = await request("POST", "/v1/functions", { key: a.all, body: { name: "broken", code } });
    const body = await problem(answer);
    expect([answer.status, body.code]).toEqual([400, "function_invalid"]);
    expect(body.detail).not.toMatch(/\/work|node_modules/);
  });
});

/** The way to the platform's modules that cannot be closed: what a guest does with them must not matter. */
const WORKERS = '(await import("node:" + "process")).getBuiltinModule("cloudflare:workers")';

describe("a run that is over", () => {
  test.each([
    ["done", "return 1;", 200],
    ["failed", "throw new Error('x');", 500],
    ["timed out", "await new Promise((resolve) => setTimeout(resolve, 20_000));", 504],
    ["cancelled", "await new Promise((resolve) => setTimeout(resolve, 20_000));", 409],
  ])("reaches nothing, whatever it left going on (%s)", async (what, end, status) => {
    const { allowed } = origin;
    const of = `over-${what.replace(" ", "-")}`;
    await deploy(
      of,
      `async (ctx) => {
        const { waitUntil } = ${WORKERS};
        const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
        const counted = async () => Number(await (await fetch(ctx.input.at + "/counted?of=" + ctx.input.of)).text());
        if (ctx.input.look) {
          const before = [await counted(), turns, ticks]; await pause(300); return { before, after: [await counted(), turns, ticks], errors };
        }
        const count = () => fetch(ctx.input.at + "/count?of=" + ctx.input.of);
        waitUntil((async () => { for (;;) { turns += 1; try { await count(); } catch (error) { errors.push(String(error)); } await pause(5); } })());
        waitUntil((async () => { for (;;) { turns += 1; await scheduler.wait(5); await count(); } })());
        waitUntil((async () => { for (;;) { turns += 1; await ctx.memory.get("k"); await count(); } })());
        setInterval(() => { ticks += 1; waitUntil(count()); }, 5);
        waitUntil(new Promise(() => {}));
        while (await counted() < 5) await pause(5);
        await ctx.emit("under-way");
        ${end}
      }`,
      {
        before: "let turns = 0; let ticks = 0; const errors = [];",
        config: { egress: [new URL(allowed).host], timeout_ms: what === "timed out" ? 1_500 : 25_000 },
      },
    );
    const input = { at: allowed, of };
    if (what === "cancelled") {
      const { run } = await (await invoke(of, input, { headers: { prefer: "respond-async" } })).json<RunBody>();
      for await (const event of sse(await request("GET", `/v1/runs/${run}/events`, { key: a.all }))) if (event.event === "event") break;
      expect((await request("POST", `/v1/runs/${run}/cancel`, { key: a.all })).status).toBe(200);
    } else {
      expect((await invoke(of, input)).status).toBe(status);
    }
    const seen = await output<{ before: number[]; after: number[]; errors: string[] }>(of, { ...input, look: true });
    expect(seen.before[0]).toBeGreaterThanOrEqual(5);
    expect(seen.after).toEqual(seen.before);
  });
});

test("a guest that ends its isolate ends its own run: the next ones work", async () => {
  await deploy("aborts", `async (ctx) => { if (ctx.input === "go") ${WORKERS}.abortIsolate("gone"); return "fine"; }`);
  expect(await output("aborts")).toBe("fine");
  const broken = await problem(invoke("aborts", "go"));
  // Local workerd finds first that nothing is left to answer.
  expect(["internal", "function_timeout"]).toContain(broken.code);
  expect(broken.detail).not.toMatch(/reference/);
  expect([await output("aborts"), await output("aborts")]).toEqual(["fine", "fine"]);
});

describe("what a guest can reach", () => {
  test("env is empty, and so are the platform's doors", async () => {
    await deploy(
      "looks",
      `async (ctx) => ({
        keys: Object.keys(ctx),
        there: ["caches", "process", "Buffer", "WebSocket", "WebSocketPair", "EventSource", "fetch"].filter((name) => name in globalThis),
        beacon: typeof navigator.sendBeacon,
      })`,
    );
    expect(await output("looks")).toEqual({
      keys: ["input", "run", "ai", "memory", "log", "call", "step", "fanout", "emit", "agent"],
      there: ["fetch"],
      beacon: "undefined",
    });
  });

  test.each([
    ["none allowed", [], "https://example.com/"],
    ["another allowed", ["api.example.com"], "https://example.com/"],
    ["a port that is not allowed", ["example.com"], "https://example.com:8443/"],
    ["an address", ["api.example.com"], "http://169.254.169.254/latest/meta-data"],
    ["an address spelt otherwise", ["api.example.com"], "http://2852039166/"],
  ])("a forbidden host: %s", async (what, egress, url) => {
    const name = `fetches-${what.replaceAll(" ", "-")}`;
    await deploy(name, "async (ctx) => (await fetch(ctx.input)).status", { config: { egress } });
    const answer = await invoke(name, url);
    const body = await problem(answer);
    expect([answer.status, body.code]).toEqual([403, "egress_forbidden"]);
    expect(body.detail).toContain(new URL(url).host);
  });

  const MODULES = ["workers", "sockets", "email", "workflows", "node", "durable-objects", "pipelines", "vectorize", "br", "ai"];

  test.each([
    ["a name of it", 'import { waitUntil } from "cloudflare:workers";'],
    ["all of it", 'import * as all from "cloudflare:workers";'],
    ["nothing of it", 'import "cloudflare:sockets";'],
    ["what it exports", 'export { connect } from "cloudflare:sockets";'],
    ["later", 'const load = () => import("cloudflare:workers");'],
    ["by way of process", 'import { getBuiltinModule } from "node:process";'],
    ["a module that does not exist", 'import { x } from "cloudflare:none";'],
  ])("code that imports of a platform module %s is refused at deploy", async (_what, line) => {
    const body = { name: "imports", code: `${line}\nexport default () => 1;` };
    const refused = await problem(request("POST", "/v1/functions", { key: a.all, body }));
    expect(refused).toMatchObject({ status: 400, code: "function_invalid" });
    expect(refused.detail).toMatch(/^The code imports "(cloudflare:\w+|node:process)", which functions cannot/);
  });

  test("no expression imports a platform module, and the harness can be imported but not changed", async () => {
    await deploy(
      "imports-late",
      `async (ctx) => {
        const seen = {};
        for (const name of ctx.input) {
          try { seen[name] = Object.keys(await import(name)); } catch (error) { seen[name] = "refused"; }
        }
        const { Guest } = await import("entry.js");
        return { seen, frozen: Object.isFrozen(Guest) };
      }`,
    );
    const names = [...MODULES.map((name) => `cloudflare:${name}`), "workerd:unsafe", "node:net", "node:http", "process"];
    const inner = ["session.ts", "scope.ts", "globals.ts", "./session.js"];
    expect(await output("imports-late", [...names, ...inner, "entry.js"])).toEqual({
      seen: { ...Object.fromEntries([...names, ...inner].map((name) => [name, "refused"])), "entry.js": ["Guest"] },
      frozen: true,
    });
  });

  test("an allowed host is reached; a redirect goes only to another that is allowed", async () => {
    const { allowed, other } = origin;
    await deploy("reaches", "async (ctx) => (await fetch(ctx.input)).text()", { config: { egress: [new URL(allowed).host] } });
    expect(await output("reaches", allowed)).toBe("here");
    const redirected = (to: string) => `${allowed}/redirect?to=${encodeURIComponent(to)}`;
    expect(await output("reaches", redirected(allowed))).toBe("here");
    expect(await problem(invoke("reaches", redirected(other)))).toMatchObject({ status: 403, code: "egress_forbidden" });
    expect(await problem(invoke("reaches", redirected(redirected(other))))).toMatchObject({ status: 403, code: "egress_forbidden" });
  });

  test("the header of a refusal is the edge's own: no site and no guest can set it", async () => {
    const { allowed } = origin;
    const forged = "{ 'x-millrace-egress-forbidden': 'bank.example', 'x-mine': 'kept' }";
    await deploy(
      "forges",
      `async (ctx) => {
        const answers = [await fetch(ctx.input + "/forged"), await fetch(ctx.input + "/headers", { headers: ${forged} })];
        return Promise.all(answers.map(async (answer) => [answer.status, Object.fromEntries(answer.headers), await answer.text()]));
      }`,
      { config: { egress: [new URL(allowed).host] } },
    );
    const [site, guest] = await output<[number, Record<string, string>, string][]>("forges", allowed);
    expect(site).toMatchObject([200, {}, "forged"]);
    expect(site?.[1]).not.toHaveProperty("x-millrace-egress-forbidden");
    expect(JSON.parse(guest?.[2] ?? "")).toMatchObject({ "x-mine": "kept" });
    expect(guest?.[2]).not.toContain("x-millrace-egress-forbidden");
  });

  test.each(["production", "Production", "", undefined])(
    "in the environment %o an address inside is refused, also one that is allowed",
    async (env) => {
      const { allowed, other } = origin;
      const hosts = [allowed, other].map((at) => new URL(at).host);
      await deploy("reaches-inside", "async (ctx) => (await fetch(ctx.input)).text()", { config: { egress: hosts } });
      const settings = bindings as { MILLRACE_ENV: unknown };
      const before = settings.MILLRACE_ENV;
      settings.MILLRACE_ENV = env;
      try {
        for (const inside of [allowed, other]) {
          expect(await problem(invoke("reaches-inside", inside))).toMatchObject({ status: 403, code: "egress_forbidden" });
        }
      } finally {
        settings.MILLRACE_ENV = before;
      }
      expect(await output("reaches-inside", allowed)).toBe("here");
    },
  );

  test("what is deployed is the production environment", () => {
    expect(/^\[vars\][^[]*^MILLRACE_ENV = "([^"]*)"$/m.exec(wrangler_toml)?.[1]).toBe("production");
    expect(wrangler_toml.match(/MILLRACE_ENV/g)).toHaveLength(1);
  });

  test("more fetches than the platform takes at once wait their turn", async () => {
    const { allowed } = origin;
    await deploy(
      "fetches-much",
      "async (ctx) => (await Promise.all(Array.from({ length: 40 }, async () => (await fetch(ctx.input)).text()))).length",
      {
        config: { egress: [new URL(allowed).host] },
      },
    );
    expect(await output("fetches-much", allowed)).toBe(40);
  });

  test.each([
    ["set", "ctx.memory.set('k', 1, { tenant: 'ten_b' })"],
    ["get", "ctx.memory.get('k', { tenant: 'ten_b' })"],
    ["list", "ctx.memory.list({ session: 'ses_other' })"],
    ["scope", "ctx.memory.get('k', { scope: 'project' })"],
  ])("another's memory cannot be named (%s)", async (what, ask) => {
    await deploy(`greedy-${what}`, `async (ctx) => ${ask}`);
    const answer = await invoke(`greedy-${what}`);
    expect([answer.status, (await problem(answer)).code]).toEqual([403, "capability_denied"]);
  });

  test("memory is the function's own, and the tenant's", async () => {
    const handler =
      "async (ctx) => { const was = await ctx.memory.get('k'); if (ctx.input) await ctx.memory.set('k', ctx.input); return { was: was ?? null, keys: await ctx.memory.list() }; }";
    for (const key of [a.all, b.all]) {
      await deploy("keeper", handler, { key });
      await deploy("other-keeper", handler, { key });
    }
    expect(await output("keeper", "a's")).toEqual({ was: null, keys: ["k"] });
    expect(await output("keeper")).toEqual({ was: "a's", keys: ["k"] });
    expect(await output("other-keeper")).toEqual({ was: null, keys: [] });
    expect(await output("keeper", null, { key: b.all })).toEqual({ was: null, keys: [] });
  });

  test("capability arguments have bounds", async () => {
    await deploy(
      "bounds",
      `async (ctx) => {
      const refused = [];
      for (const attempt of [
        () => ctx.memory.set("x".repeat(600), 1),
        () => ctx.memory.set("k", "x".repeat(70_000)),
        () => ctx.memory.set("k", () => 1),
        () => ctx.ai.chat({ messages: [] }),
        () => ctx.ai.chat({ messages: "no" }),
        () => ctx.emit("big", "x".repeat(70_000)),
        () => ctx.step("bad/name", () => 1),
        () => ctx.call("No Such Name"),
        () => ctx.fanout(new Array(1001).fill(0), () => 1),
      ]) { try { await attempt(); refused.push("allowed"); } catch (e) { refused.push(e.code); } }
      return refused;
    }`,
    );
    expect(await output("bounds")).toEqual([...Array.from({ length: 8 }, () => "invalid_request"), "too_many_steps"]);
  });
});

describe("what a guest says", () => {
  const linesOf = async (run: string) => {
    const answer = await request("GET", `/v1/runs/${run}/logs`, { key: a.all });
    return (await answer.json<{ lines: { text: string }[] }>()).lines;
  };

  test("more log text than one message takes arrives whole, and the next capability works", async () => {
    await deploy(
      "talks-much",
      "async (ctx) => { for (let i = 0; i < 100; i++) ctx.log('€'.repeat(8192)); await ctx.memory.get('k'); return 1; }",
    );
    const run = await (await invoke("talks-much")).json<RunBody>();
    expect(run.status).toBe("done");
    expect(await linesOf(run.run)).toHaveLength(100);
  });

  test("an event that is too large is refused alone: what comes after works, what was said before is kept", async () => {
    const emit = "ctx.emit('e', 'x'.repeat(70000)).catch((e) => e.code)";
    await deploy(
      "emits-much",
      `async (ctx) => { console.log("before"); const code = await ${emit}; await ctx.memory.get("k"); return code; }`,
    );
    const run = await (await invoke("emits-much")).json<RunBody>();
    expect(run).toMatchObject({ status: "done", output: "invalid_request" });
    expect((await linesOf(run.run)).map((line) => line.text)).toEqual(["before"]);
  });

  test("in a listener of AbortSignal.timeout the run's context is there", async () => {
    const wait = "new Promise((resolve) => AbortSignal.timeout(20).addEventListener('abort', () => resolve(ctx.memory.set('k', 1))))";
    await deploy("listens", `async (ctx) => { await ${wait}; await ctx.memory.set('l', 2); return ctx.memory.get('k'); }`);
    expect((await (await invoke("listens")).json<RunBody>()).status).toBe("done");
  });
});
