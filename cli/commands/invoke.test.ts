/** `millrace invoke` as a process, against a server that answers well and badly: what it says and how it ends, with and without --json. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { failure, toProblem } from "../../schema/core/errors.ts";
import { asId } from "../../schema/core/ids.ts";

vi.setConfig({ testTimeout: 30_000 }); // a process or four each

const RUN = asId<"run">(`run_${"0".repeat(32)}`);
const main = join(import.meta.dirname, "..", "main.ts");
let server: Server;
afterEach(() => new Promise((resolve) => server.close(resolve)));

async function serve(answer: (response: ServerResponse) => void): Promise<string> {
  server = createServer((_request, response) => answer(response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function millrace(url: string, ...args: string[]) {
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", main, ...args, "--url", url, "--key", "mr_key"]);
  let out = "";
  let err = "";
  child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
  const [code] = (await once(child, "close")) as [number];
  return { code, out, err };
}

const events = (response: ServerResponse, ...data: object[]) => {
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (const [i, each] of data.entries()) response.write(`data: ${JSON.stringify({ seq: i + 1, ...each })}\n\n`);
};
const started = { type: "run.started", run: RUN };
const failed = (code: "function_threw" | "cancelled") => ({ type: "run.failed", error: failure(code, "said so") });
const way = `millrace logs ${RUN}`;

/** What the server does to a stream; the exit code; what is said. */
const STREAMS: [string, (response: ServerResponse) => void, number, RegExp | string][] = [
  ["done", (r) => (events(r, started, { type: "run.done", output: 1 }), r.end()), 0, ""],
  ["failed", (r) => (events(r, started, failed("function_threw")), r.end()), 1, /^millrace: function_threw: .*said so\n$/],
  ["cancelled", (r) => (events(r, started, failed("cancelled")), r.end()), 2, /^millrace: cancelled: .*said so\n$/],
  [
    "ended early",
    (r) => (events(r, started), r.end()),
    1,
    `millrace: the event stream ended before the run did; the run may go on: ${way}\n`,
  ],
  [
    "broken",
    (r) => (events(r, started), r.write("data: ", () => r.destroy())),
    1,
    /^millrace: the event stream broke \(.*\); the run may go on: millrace logs run_0+\n$/,
  ],
  [
    "empty",
    (r) => (events(r), r.end()),
    1,
    "millrace: the event stream ended before the run did; it is not known whether a run was started.\n",
  ],
  [
    "no event",
    (r) => (events(r, started, { type: "x" }), r.end()),
    1,
    /^millrace: the event stream broke \(.*\); .*millrace logs run_0+\n$/,
  ],
];
test.each(STREAMS)("a stream: %s", async (_, answer, code, said) => {
  const url = await serve(answer);
  const [plain, json] = await Promise.all([millrace(url, "invoke", "f", "--stream"), millrace(url, "invoke", "f", "--stream", "--json")]);
  for (const ended of [plain, json]) {
    expect(ended.code).toBe(code);
    if (typeof said === "string") expect(ended.err).toBe(said);
    else expect(ended.err).toMatch(said);
  }
});

test("a failed run ends alike with and without a stream", async () => {
  const url = await serve((response) => {
    response.writeHead(499, { "content-type": "application/problem+json" });
    response.end(JSON.stringify({ ...toProblem(failure("cancelled", "said so")), run: RUN }));
  });
  const ended = await millrace(url, "invoke", "f");
  expect(ended).toMatchObject({ code: 2, err: expect.stringMatching(/^millrace: cancelled: .*said so\n$/) });
});

const stack = "Error: no such thing\n    at here (/app/x.js:1:1)\n    at there";
const page = "<!doctype html>\n<html><head><title>502</title><style>b{}</style></head><body><h1>Bad gateway</h1></body></html>";
test.each([
  ["a stack", 500, stack, 1, "millrace: unknown: HTTP 500: Error: no such thing\n"],
  ["a page", 502, page, 1, "millrace: unknown: HTTP 502: Bad gateway\n"],
  ["nothing", 500, "", 1, "millrace: unknown: HTTP 500: no reason given\n"],
  ["a page that calls itself an answer", 200, page, 1, /answered something else than a Millrace of this version: Bad gateway\n$/],
  ["another JSON", 200, "{}", 1, /^millrace: http.*answered something else than a Millrace of this version: .+\n$/],
] as const)("%s instead of an answer is one line", async (_, status, body, code, said) => {
  const ended = await millrace(await serve((response) => response.writeHead(status).end(body)), "invoke", "f");
  expect(ended.code).toBe(code);
  if (typeof said === "string") expect(ended.err).toBe(said);
  else expect(ended.err).toMatch(said);
});

test("an answer that breaks off is one line", async () => {
  const url = await serve((response) => {
    response.writeHead(200, { "content-length": "100" });
    response.write("{", () => response.destroy());
  });
  const ended = await millrace(url, "invoke", "f");
  expect(ended).toMatchObject({
    code: 1,
    err: expect.stringMatching(/^millrace: the connection broke in the middle of the answer: .*\n$/),
  });
});

test("why nothing can be reached is said, by the client library's commands too", async () => {
  const url = await serve(() => {});
  await new Promise((resolve) => server.close(resolve));
  expect((await millrace(url, "invoke", "f")).err).toMatch(
    /^millrace: cannot reach http\S+: fetch failed: connect ECONNREFUSED 127\.0\.0\.1:\d+\n$/,
  );
  expect((await millrace(url, "chat", "f")).err).toMatch(
    /^millrace: network: http\S+ cannot be reached: fetch failed: connect ECONNREFUSED .*\n$/,
  );
  server = createServer().listen(0);
});
