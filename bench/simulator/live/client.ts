/** Sends calls when they are due, open loop, and notes when each token came: times are the client's own. */
import { setTimeout as pause } from "node:timers/promises";
import { Pool } from "undici";
import { SseParser } from "../../../gpu-gateway/engines/sse.ts";
import type { LiveCall } from "./workload.ts";

const CONNECTIONS = 256; // a call that found none would wait, and its waiting would look like the gateway's

export type Heard = {
  readonly call_id: string;
  readonly ttft_ms: number;
  readonly e2e_ms: number;
  readonly last_ms: number;
  readonly tokens: number;
  /** How late it was sent, by the client's own fault. */
  readonly late_ms: number;
};

type Chunk = {
  readonly choices?: readonly { readonly text?: string }[];
  readonly usage?: { readonly completion_tokens: number };
};

export async function sendAll(
  calls: readonly LiveCall[],
  to: { readonly url: string; readonly key: string; readonly model: string },
): Promise<Heard[]> {
  const pool = new Pool(to.url, { connections: CONNECTIONS, pipelining: 1 });
  const began = performance.now() + 500;
  const heard = await Promise.all(
    calls.map(async (call) => {
      const due = began + call.at_ms;
      await pause(due - performance.now());
      return send(pool, call, to, due);
    }),
  );
  await pool.close();
  return heard;
}

async function send(
  pool: Pool,
  { prompt, max_tokens }: LiveCall,
  { key, model }: { key: string; model: string },
  due: number,
): Promise<Heard> {
  const body = JSON.stringify({ model, prompt, max_tokens, stream: true, stream_options: { include_usage: true } });
  const sent = performance.now();
  const answer = await pool.request({
    path: "/v1/completions",
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
    body,
  });
  if (answer.statusCode !== 200) throw new Error(`a call was answered with ${answer.statusCode}: ${await answer.body.text()}`);
  let first: number | null = null;
  let last = 0;
  let tokens = 0;
  const parser = new SseParser((event) => {
    if (event.type === "fault") throw new Error(event.detail);
    if (event.data === "[DONE]") return;
    const { choices, usage } = JSON.parse(event.data) as Chunk;
    if ((choices?.[0]?.text ?? "") !== "") {
      last = performance.now();
      first ??= last;
    }
    tokens = usage?.completion_tokens ?? tokens;
  });
  for await (const part of answer.body) parser.push(part as Buffer);
  const ended = performance.now();
  if (first === null || tokens === 0) throw new Error("an answer had no tokens");
  const call_id = String(answer.headers["x-millrace-call-id"]);
  return { call_id, ttft_ms: first - sent, last_ms: last - sent, e2e_ms: ended - sent, tokens, late_ms: sent - due };
}
