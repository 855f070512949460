/** The `millrace` command as a script uses it: every client command in a process of its own, with --json. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { product } from "../support/product.ts";

const root = join(import.meta.dirname, "..", "..");
const folder = mkdtempSync(join(tmpdir(), "millrace-cli-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

type Ended = { readonly code: number | null; readonly out: string; readonly err: string };
function millrace(args: readonly string[], input = "", env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", join(root, "cli", "main.ts"), ...args], {
    cwd: folder,
    env: { ...process.env, MILLRACE_URL: product().edge_url, MILLRACE_KEY: product().key, ...env },
    stdio: ["pipe", "pipe", "pipe"],
  });
  let out = "";
  let err = "";
  child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
  child.stdin.end(input);
  return new Promise((resolve) => child.once("exit", (code) => resolve({ code, out, err })));
}
const json = async (...args: string[]): Promise<Record<string, unknown>> => {
  const ended = await millrace([...args, "--json"]);
  expect(ended).toMatchObject({ code: 0, err: "" });
  return JSON.parse(ended.out) as Record<string, unknown>;
};

it("deploys, invokes, shows logs, usage and keys", async () => {
  writeFileSync(
    join(folder, "greet.ts"),
    `import { agent } from "millrace";
     export default agent<{ name: string }>(async (ctx) => {
       ctx.log.warn("greeting " + ctx.input.name);
       return { greeting: "hello " + ctx.input.name };
     });`,
  );
  const version = await json("deploy", "greet.ts");
  expect(version).toMatchObject({ name: "greet", alias: "live" });
  expect((await json("deploy", "greet.ts"))["version"]).toBe(version["version"]);

  const run = await json("invoke", "greet", '{"name":"miller"}');
  expect(run).toMatchObject({ status: "done", output: { greeting: "hello miller" } });
  const again = ["invoke", "greet", '{"name":"once"}', "--idempotency-key", "cli-1"];
  expect((await json(...again))["run"]).toBe((await json(...again))["run"]);

  expect(await json("logs", String(run["run"]))).toMatchObject({ lines: [{ level: "warn", text: "greeting miller" }], dropped: 0 });
  expect(await json("usage", "--by", "function,day")).toMatchObject({
    group_by: ["function", "day"],
    reconciliation: { difference_gpu_ns: "0" },
  });

  const key = await json("keys", "create", "from the cli", "--scopes", "usage");
  expect(key["secret"]).toMatch(/^mr_/);
  const narrow = await millrace(["invoke", "greet", "{}"], "", { MILLRACE_KEY: String(key["secret"]) });
  expect(narrow).toMatchObject({ code: 2, out: "" });
  expect(narrow.err).toMatch(/^millrace: insufficient_scope: .*invoke/);
  await json("keys", "revoke", String(key["key"]));
  const keys = (await json("keys", "list"))["keys"] as { key: string; revoked_at: string | null }[];
  expect(keys.find((one) => one.key === key["key"])?.revoked_at).toEqual(expect.any(String));
});

it("streams a run and holds a session", async () => {
  const streamed = await millrace(["invoke", "swarm", '{"question":"what is a mill race?"}', "--stream", "--json"]);
  const types = streamed.out
    .trim()
    .split("\n")
    .map((line) => (JSON.parse(line) as { type: string }).type);
  expect(types[0]).toBe("run.started");
  expect(types.at(-1)).toBe("run.done");
  expect(types).toContain("delta");

  expect((await millrace(["usage", "--by", "function"])).out).toMatch(/^swarm +\d/m);

  const chat = await millrace(["chat", "swarm", "--message", "hello", "--json"]);
  const items = chat.out
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { type: string; seq: number });
  expect(chat.code).toBe(0);
  expect(items.map((item) => item.seq)).toEqual(items.map((_, i) => i + 1));
  expect(items.at(-1)?.type).toBe("turn.done");
});

it("refuses in one line, with a code that a script can use", async () => {
  writeFileSync(join(folder, "broken.ts"), "export default (");
  const cases: [string[], number, RegExp][] = [
    [["invoke", "nobody-deployed-it"], 2, /^millrace: function_not_found: /],
    [["deploy", "broken.ts"], 1, /^millrace: broken\.ts cannot be bundled: .*broken\.ts:1:16/],
    [["deploy", "absent.ts"], 1, /^millrace: absent\.ts cannot be bundled: /],
    [["logs", "run_00000000000000000000000000000000"], 2, /^millrace: run_not_found: /],
    [["chat", "swarm", "--session", `ses_${"0".repeat(32)}`], 2, /^millrace: session_not_found: /],
    [["usage", "--by", "nonsense"], 1, /one or more of function, session/],
  ];
  for (const [args, code, message] of cases) {
    const ended = await millrace(args);
    expect(ended.err).toMatch(message);
    expect(ended.code).toBe(code);
  }
  const nowhere = await millrace(["invoke", "greet"], "", { MILLRACE_URL: "http://127.0.0.1:1" });
  expect(nowhere).toMatchObject({ code: 1, err: expect.stringMatching(/^millrace: cannot reach http:\/\/127\.0\.0\.1:1: /) });
});
