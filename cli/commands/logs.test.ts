/** `millrace logs` against a server that answers as the edge does: page by page. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { asId } from "../../schema/core/ids.ts";
import { logs } from "./logs.ts";

const SESSION = asId<"session">(`ses_${"0".repeat(32)}`);
const RUN = asId<"run">(`run_${"0".repeat(32)}`);
let server: Server;
let asked: string[] = [];
afterEach(() => new Promise((resolve) => server.close(resolve)));

async function serve(answer: (after: number) => object) {
  asked = [];
  server = createServer((request, response) => {
    asked.push(request.url ?? "");
    response.end(JSON.stringify(answer(Number(new URL(request.url ?? "/", "http://edge").searchParams.get("after") ?? 0))));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, key: "mr_key" };
}
const line = (seq: number) => ({ seq, at: "2026-01-01T00:00:00.000Z", level: "info", text: `line ${seq}` });

test("a run's lines come page by page", async () => {
  const connection = await serve((after) => ({ lines: [{ run: RUN, ...line(after + 1) }], seq: 2, dropped: 2 }));
  const lines = [1, 2].map((seq) => ({ run: RUN, ...line(seq) }));
  expect(await logs(connection, RUN)).toEqual({ lines, dropped: 2 });
  expect(asked).toEqual([0, 1].map((after) => `/v1/runs/${RUN}/logs?after=${after}`));
});

test("a session's lines come page by page, up to what was there when it was asked", async () => {
  let last = 5;
  const connection = await serve((after) => {
    const lines = [1, 2].map((n) => ({ session: SESSION, turn: "t1", ...line(Math.max(after, 1) + n) }));
    return { lines, seq: (last += 10) - 10, dropped: 1 };
  });
  const found = await logs(connection, SESSION);
  expect(found.lines.map((each) => each.seq)).toEqual([2, 3, 4, 5]);
  expect(found.dropped).toBe(1);
  expect(asked).toEqual([`/v1/sessions/${SESSION}/logs?after=0`, `/v1/sessions/${SESSION}/logs?after=3`]);
});

test("a session without lines", async () => {
  const body = { lines: [], seq: 0, dropped: 0 };
  expect(await logs(await serve(() => body), SESSION)).toEqual({ lines: [], dropped: 0 });
});
