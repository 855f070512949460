/** The edge's OpenAI door by raw HTTP: a sender that has not done when it is refused, a reader that leaves. */
import { connect } from "node:net";
import { expect, it } from "vitest";
import { product, withDatabase } from "../support/product.ts";
import { until } from "../support/until.ts";

const CHUNK = Buffer.alloc(65_536, "x");
const CHUNKS = 160;
/** A race: one upload may be lucky. */
const UPLOADS = 8;

/** Sends 10 MB in chunks, without a length and without waiting for an answer; all that came back. */
async function upload(): Promise<string> {
  const { edge_url, key } = product();
  const { hostname, port } = new URL(edge_url);
  const socket = connect(Number(port), hostname);
  const { promise, resolve } = Promise.withResolvers<string>();
  let got = "";
  socket.on("data", (data) => {
    got += data.toString();
    if (got.includes("}}")) socket.destroy(); // the edge waits a while with closing
  });
  socket.on("error", () => undefined); // a reset: what came before it counts
  socket.on("close", () => resolve(got));
  const headers = `host: edge\r\nauthorization: Bearer ${key}\r\ncontent-type: application/json\r\nconnection: close`;
  socket.write(`POST /v1/chat/completions HTTP/1.1\r\n${headers}\r\ntransfer-encoding: chunked\r\n\r\n`);
  for (let i = 0; i < CHUNKS; i++) {
    socket.write(`${CHUNK.length.toString(16)}\r\n`);
    socket.write(CHUNK);
    socket.write("\r\n");
  }
  socket.write("0\r\n\r\n");
  return promise;
}

it("a body of 10 MB without a length is refused in OpenAI's shape, always", async () => {
  for (let i = 0; i < UPLOADS; i++) {
    const answer = await upload();
    expect(answer.split("\r\n")[0]).toMatch(/^HTTP\/1\.1 413 /);
    expect(answer).toContain('"code":"body_too_large"');
  }
});

it("a client that leaves a stream cancels its call", async () => {
  const { edge_url, key } = product();
  const leaving = new AbortController();
  const tokens = 4_000;
  const answer = await fetch(`${edge_url}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({
      model: "llama-3-8b",
      messages: [{ role: "user", content: "talk" }],
      max_tokens: tokens,
      stream: true,
      response_format: { type: "json_schema", json_schema: { name: "long", schema: { const: "word".repeat(tokens) } } },
    }),
    signal: leaving.signal,
  });
  let text = "";
  let id: string | undefined;
  const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
  while (id === undefined) {
    const part = await reader?.read();
    if (part?.value === undefined) throw new Error(`no chunk in ${text}`);
    text += part.value;
    id = /"id":"chatcmpl-([^"]+)"/.exec(text)?.[1];
  }
  leaving.abort();
  await withDatabase((sql) =>
    until(
      "the call is written down",
      async () => {
        const [row] = await sql<{ outcome: string }[]>`select outcome from calls where call = ${`call_${id}`}`;
        if (row !== undefined) expect(row.outcome).toBe("cancelled");
        return row !== undefined;
      },
      60_000,
    ),
  );
});
