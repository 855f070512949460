/** The client over HTTP against a real server: what it sends, and what it makes of answers good and bad. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { failure, toProblem } from "../../schema/core/errors.ts";
import { createHttpClient } from "./http.ts";

let server: Server;
afterEach(() => new Promise((resolve) => server.close(resolve)));

async function client(answer: (request: IncomingMessage, response: ServerResponse) => void) {
  server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return createHttpClient({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, key: "mr_key" });
}

const done = { run: "run_1", function: "f", version: "ver_1", status: "done", created_at: "", finished_at: null, output: 1 };

test("invoke sends key, version and idempotency key, and answers with the run", async () => {
  let seen: IncomingMessage | undefined;
  let body = "";
  const millrace = await client((request, response) => {
    seen = request;
    request.on("data", (chunk: Buffer) => (body += chunk.toString()));
    request.on("end", () => response.setHeader("content-type", "application/json").end(JSON.stringify(done)));
  });
  expect(await millrace.invoke("f", { q: 1 }, { version: "live", idempotency_key: "k1" })).toEqual(done);
  expect(seen).toMatchObject({ method: "POST", url: "/v1/functions/f/invocations" });
  expect(seen?.headers).toMatchObject({ authorization: "Bearer mr_key", "idempotency-key": "k1" });
  expect(JSON.parse(body)).toEqual({ input: { q: 1 }, version: "live" });
});

test("a run that failed is an answer", async () => {
  const failed = { ...done, status: "failed", error: { code: "function_threw" } };
  const millrace = await client((request, response) => {
    if (request.method === "GET") return void response.end(JSON.stringify(failed));
    response.writeHead(500, { "content-type": "application/problem+json" });
    response.end(JSON.stringify({ ...toProblem(failure("function_threw")), run: "run_1" }));
  });
  expect(await millrace.invoke("f", null)).toEqual(failed);
});

test("a refusal carries code, status, request id and whether to retry", async () => {
  const millrace = await client((_request, response) => {
    response.writeHead(429, { "content-type": "application/problem+json", "x-request-id": "req_1" });
    response.end(JSON.stringify(toProblem(failure("queue_full", "full"))));
  });
  const refusal = { code: "queue_full", message: "full", status: 429, retryable: true, request_id: "req_1" };
  await expect(millrace.invoke("f", null)).rejects.toMatchObject(refusal);
});

test("a proxy's page is an error too", async () => {
  const millrace = await client((_request, response) => response.writeHead(502).end("<h1>Bad gateway</h1>"));
  await expect(millrace.session("ses_1")).rejects.toMatchObject({ code: "internal", status: 502 });
});

test("nobody there: network", async () => {
  const millrace = await client(() => undefined);
  await new Promise((resolve) => server.close(resolve));
  await expect(millrace.run("run_1")).rejects.toMatchObject({ code: "network", retryable: true });
  server = createServer().listen(0);
});

test("a stream's events arrive whole, however the bytes are cut, and comments are skipped", async () => {
  const millrace = await client((_request, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    const text = `: hello\n\nevent: delta\nid: 1\ndata: {"type":"delta","seq":1,"text":"ü"}\n\nevent: run.done\ndata: {"type":"run.done",\ndata: "seq":2}\n\n`;
    const bytes = Buffer.from(text);
    const next = (at: number): void => {
      if (at >= bytes.length) return void response.end();
      response.write(bytes.subarray(at, at + 1), () => next(at + 1));
    };
    next(0);
  });
  const events: unknown[] = [];
  for await (const event of millrace.stream("f", null)) events.push(event);
  expect(events).toEqual([
    { type: "delta", seq: 1, text: "ü" },
    { type: "run.done", seq: 2 },
  ]);
});

test("logs of a run, and of a session after a line", async () => {
  const asked: (string | undefined)[] = [];
  const millrace = await client((request, response) => {
    asked.push(request.url);
    response.end(JSON.stringify({ lines: [], seq: 7, dropped: 0 }));
  });
  expect(await millrace.sessionLogs("ses_1", 7)).toEqual({ lines: [], seq: 7, dropped: 0 });
  await millrace.sessionLogs("ses_1");
  await millrace.runLogs("run_1");
  expect(asked).toEqual(["/v1/sessions/ses_1/logs?after=7", "/v1/sessions/ses_1/logs?after=0", "/v1/runs/run_1/logs?after=0"]);
});

test("a run's logs are read page by page, up to what was there when they were asked for", async () => {
  let last = 3;
  const millrace = await client((request, response) => {
    const after = Number(new URL(request.url ?? "/", "http://edge").searchParams.get("after"));
    response.end(JSON.stringify({ lines: [{ seq: after + 1 }, { seq: after + 2 }], seq: last++, dropped: 0 }));
  });
  const { lines, seq } = await millrace.runLogs("run_1");
  expect([lines.map((line) => line.seq), seq]).toEqual([[1, 2, 3, 4], 3]);
});
