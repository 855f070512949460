/** A client that does not read: the gateway's memory stays bounded, others are served, and it gets all when it reads on. */
import { connect } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { MODEL, openWorld, type World } from "../../test/support/gateway-world.ts";
import { until } from "../../test/support/until.ts";

const HOOK_MS = 60_000;
let world: World;
beforeAll(async () => {
  world = await openWorld({ pools: [{ role: "both", groups: 1 }], speed: 1_000 });
}, HOOK_MS);
afterAll(() => world.close(), HOOK_MS);

test("a stalled reader costs text, not chunks, and loses none of it", async () => {
  // More than the sockets' own buffers hold.
  const asked = 7_000;
  const choices = 8;
  const value = "mill race ".repeat(asked);
  const body = JSON.stringify({
    model: MODEL,
    messages: [{ role: "user", content: "Say it." }],
    max_tokens: asked,
    stream: true,
    n: choices,
    response_format: { type: "json_schema", json_schema: { name: "long", schema: { enum: [value] } } },
  });
  const { hostname, port } = new URL(world.url());
  const socket = connect(Number(port), hostname);
  // Nothing is read until the call is over.
  socket.pause();
  socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${world.key}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
  await until("the call to begin", async () => (await world.state()).legs > 0);
  await until("the call to end unread", async () => (await world.state()).calls === 0, 60_000);

  let text = "";
  socket.on("data", (chunk) => (text += chunk.toString()));
  socket.resume();
  await until("the end of the stream", () => text.includes("data: [DONE]"));
  const said = Array.from({ length: choices }, () => "");
  const lines = text.split("\n").filter((line) => line.startsWith("data: {"));
  for (const line of lines) {
    const { choices: pieces } = JSON.parse(line.slice(6)) as { choices: { index: number; delta: { content?: string } }[] };
    for (const { index, delta } of pieces) said[index] += delta.content ?? "";
  }
  for (const each of said) {
    expect(JSON.stringify(value).startsWith(each)).toBe(true);
    expect(each.length).toBeGreaterThan(asked * 3);
  }
  expect(lines.length).toBeLessThan(asked * choices);
}, 90_000);
