/** Engines that answer without end: each answer is given up at its limit, its connection is closed, and what is kept of it is bounded. */
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { asId } from "../../schema/core/ids.ts";
import { within } from "../../test/support/until.ts";
import type { LegFailure } from "../policy/vocabulary.ts";
import type { LegRequest } from "../ports/engine.ts";
import { HttpClient, TEXT_BYTES_MAX } from "./http.ts";
import { EVENT_CHARS_MAX } from "./sse.ts";
import { createVllmEngine } from "./vllm/engine.ts";
import { ANSWER_BYTES_MAX, ERROR_BYTES_MAX } from "./vllm/leg.ts";

const CHUNK = Buffer.alloc(65_536, "x");
/** What sockets and their buffers hold on the way, on both sides. */
const ON_THE_WAY_BYTES = 24 * 1_048_576;
/** The server gives up here: an answer that nobody stopped. */
const ENDLESS_BYTES = 256 * 1_048_576;

let server: Server;
let url = "";
let [status, begin] = [200, ""];
/** Of the one answer: how much was taken of it, and whether its connection was closed before its end. */
let sent = 0;
let ended: PromiseWithResolvers<"cut" | "whole">;

beforeEach(async () => {
  [sent, ended] = [0, Promise.withResolvers()];
  server = createServer((request, response) => {
    request.resume();
    response.writeHead(status, { "content-type": "application/json" });
    response.write(begin);
    const more = (): void => {
      while (!response.destroyed) {
        if (sent >= ENDLESS_BYTES) return void response.end(() => ended.resolve("whole"));
        sent += CHUNK.length;
        if (!response.write(CHUNK)) return void response.once("drain", more);
      }
    };
    response.on("close", () => ended.resolve("cut"));
    more();
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

async function fails(role: "prefill" | "whole"): Promise<LegFailure> {
  const engine = createVllmEngine({ url });
  const request: LegRequest = {
    leg_id: asId<"leg">(`call.0.${role}`),
    request_id: "gw-1",
    role,
    kind: "chat",
    body: { model: "tiny", messages: [{ role: "user", content: "hi" }] },
    handover: null,
    cache_salt: "salt",
    accept_timeout_ms: 60_000,
  };
  const { promise, resolve, reject } = Promise.withResolvers<LegFailure>();
  engine.start(request, {
    accepted: () => undefined,
    prompt: () => undefined,
    delta: () => reject(new Error("a delta")),
    finished: () => reject(new Error("finished")),
    cancelled: () => reject(new Error("cancelled")),
    failed: resolve,
  });
  try {
    return await within("the leg fails", promise, 20_000);
  } finally {
    engine.close();
  }
}

test("a prefill answer beyond ANSWER_BYTES_MAX is a protocol failure, and the rest is not taken", async () => {
  [status, begin] = [200, '{"id":"chatcmpl-gw-1","padding":"'];
  expect(await fails("prefill")).toMatchObject({
    cause: "protocol",
    failure: { code: "engine_failed", detail: "the answer is too long" },
  });
  expect(await ended.promise).toBe("cut");
  expect(sent).toBeGreaterThanOrEqual(ANSWER_BYTES_MAX);
  expect(sent).toBeLessThan(ANSWER_BYTES_MAX + ON_THE_WAY_BYTES);
});

test("an event without end in a stream is a protocol failure at EVENT_CHARS_MAX", async () => {
  [status, begin] = [200, "data: "];
  expect(await fails("whole")).toMatchObject({ cause: "protocol", failure: { detail: "an event is too long" } });
  expect(await ended.promise).toBe("cut");
  expect(sent).toBeLessThan(EVENT_CHARS_MAX + ON_THE_WAY_BYTES);
});

test("`ask` answers `unreachable` at TEXT_BYTES_MAX, and closes", async () => {
  [status, begin] = [200, ""];
  const http = new HttpClient({ url, connect_timeout_ms: 5_000, connections_max: 1 });
  const answer = await within("an answer", http.ask({ method: "GET", path: "/metrics" }, 60_000), 20_000);
  expect(answer).toEqual({ type: "unreachable", detail: "the answer is too long" });
  expect(await ended.promise).toBe("cut");
  expect(sent).toBeGreaterThanOrEqual(TEXT_BYTES_MAX);
  expect(sent).toBeLessThan(TEXT_BYTES_MAX + ON_THE_WAY_BYTES);
  http.close();
});

test("of a refusal ERROR_BYTES_MAX are kept; one without end is given up there", async () => {
  [status, begin] = [400, ""];
  expect(await fails("whole")).toMatchObject({ cause: "rejected", failure: { detail: "the engine refused the request" } });
  expect(await ended.promise).toBe("cut");
  expect(sent).toBeLessThan(ERROR_BYTES_MAX + ON_THE_WAY_BYTES);
});
