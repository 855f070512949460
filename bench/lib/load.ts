/**
 * Closed-loop load: `clients` connections, each sending its next request when the last answer is whole. Checks every answer,
 * because a fast refusal would look like a fast gateway. Runs in a process of its own (bench/lib/load-main.ts).
 */
import { Pool } from "undici";

export type LoadOptions = {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: object;
  readonly clients: number;
  readonly requests: number;
  readonly stream: boolean;
};
export type LoadResult = {
  readonly latency_ms: readonly number[];
  readonly ttft_ms: readonly number[];
  readonly errors: number;
  readonly wall_ms: number;
};

export async function load(options: LoadOptions): Promise<LoadResult> {
  const { origin, pathname } = new URL(options.url);
  const pool = new Pool(origin, { connections: options.clients, pipelining: 1 });
  const body = JSON.stringify({ ...options.body, stream: options.stream });
  const latency_ms: number[] = [];
  const ttft_ms: number[] = [];
  let errors = 0;
  let left = options.requests;
  const client = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      const began = performance.now();
      const answer = await pool.request({
        path: pathname,
        method: "POST",
        headers: { "content-type": "application/json", ...options.headers },
        body,
      });
      let text = "";
      let first = 0;
      for await (const part of answer.body) {
        text += String(part);
        if (first === 0 && (!options.stream || text.includes('"content":"'))) first = performance.now();
      }
      const good = answer.statusCode === 200 && (options.stream ? text.includes("[DONE]") && text.includes("word") : text.includes("word"));
      if (!good) errors += 1;
      latency_ms.push(performance.now() - began);
      ttft_ms.push(first - began);
    }
  };
  const began = performance.now();
  await Promise.all(Array.from({ length: options.clients }, client));
  const wall_ms = performance.now() - began;
  await pool.close();
  return { latency_ms, ttft_ms, errors, wall_ms };
}
