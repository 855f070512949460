/** What the edge's tests share: the Worker by HTTP as a client sees it, functions deployed by name, and the link's peer. */
import { env, exports } from "cloudflare:workers";
import { inject } from "vitest";
import type { EdgePostgres } from "../test/support/edge-postgres-main.ts";
import type { PeerState } from "../test/support/link-peer.ts";
import type { Env } from "./env.ts";
import { CODE_CACHE_CHARS_MAX, code_cache } from "./runtime/code-cache.ts";

export const bindings = env as unknown as Env;
const postgres_info: EdgePostgres = inject("edge_postgres");
/** Two tenants, and another project of the first one's. */
export const { a, b, sibling } = postgres_info;
/** A site elsewhere, under two names, and a port where nobody speaks. */
export const origin: { readonly allowed: string; readonly other: string; readonly silent_port: number } = inject("origin");
const worker = exports as unknown as { default: { fetch(request: Request, init?: RequestInit): Promise<Response> } };

export function request(
  method: string,
  path: string,
  options: { key?: string; body?: unknown; headers?: Record<string, string>; signal?: AbortSignal } = {},
): Promise<Response> {
  const headers: Record<string, string> = { ...options.headers };
  if (options.key !== undefined) headers["authorization"] ??= `Bearer ${options.key}`;
  if (options.body !== undefined) headers["content-type"] ??= "application/json";
  const raw = typeof options.body === "string" || options.body instanceof Uint8Array;
  const body = options.body === undefined ? {} : { body: raw ? (options.body as string) : JSON.stringify(options.body) };
  return worker.default.fetch(
    new Request(`https://edge.test${path}`, { method, headers, ...body }),
    options.signal ? { signal: options.signal } : {},
  );
}

/** Deploys the handler under the name. `handler` is the source of a function of ctx. */
export async function deploy(
  name: string,
  handler: string,
  options: { key?: string; config?: object; before?: string } = {},
): Promise<{ version: string }> {
  const code = `import { agent, MillraceError } from "millrace";\n${options.before ?? ""}\nexport default agent(${handler});\n`;
  const answer = await request("POST", "/v1/functions", { key: options.key ?? a.all, body: { name, code, config: options.config } });
  if (!answer.ok) throw new Error(`deploy of ${name}: ${answer.status} ${await answer.text()}`);
  return (await answer.json()) as { version: string };
}

/** What this isolate has read of functions' code is pushed out of its cache. */
export const forgetCode = (): void => code_cache.put({ tenant: "filler", version: "filler" }, "x".repeat(CODE_CACHE_CHARS_MAX));

export type RunBody = { run: string; status: string; output?: unknown; error?: { code: string; detail?: string } };
export type Problem = { status: number; code: string; detail: string; run?: string; param?: string; request_id?: string };

export const invoke = (
  name: string,
  input: unknown = null,
  options: { key?: string; headers?: Record<string, string> } = {},
): Promise<Response> =>
  request("POST", `/v1/functions/${name}/invocations`, {
    key: options.key ?? a.all,
    body: { input },
    ...(options.headers ? { headers: options.headers } : {}),
  });

/** The output of a run that is done; throws with what the edge answered otherwise. */
export async function output<T = unknown>(name: string, input: unknown = null, options: { key?: string } = {}): Promise<T> {
  const answer = await invoke(name, input, options);
  if (!answer.ok) throw new Error(`${name}: ${answer.status} ${await answer.text()}`);
  return (await answer.json<{ output: T }>()).output;
}

export async function problem(answer: Response | Promise<Response>): Promise<Problem> {
  return (await (await answer).json()) as Problem;
}

export type SseEvent = { id: number; event: string; data: Record<string, unknown> };

export async function* sse(answer: Response): AsyncGenerator<SseEvent> {
  if (!answer.body) return;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const fields = Object.fromEntries(
          block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]),
        );
        if (fields["data"] === undefined) continue;
        yield { id: Number(fields["id"]), event: fields["event"] ?? "", data: JSON.parse(fields["data"]) as Record<string, unknown> };
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

export async function events(answer: Response): Promise<SseEvent[]> {
  const all: SseEvent[] = [];
  for await (const event of sse(answer)) all.push(event);
  return all;
}

/** What the peer that stands where the gateway would has seen. */
export async function peerState(tenant = a.tenant): Promise<PeerState> {
  return (await (await fetch(new URL(`/control?tenant=${tenant}`, bindings.GATEWAY_URL))).json()) as PeerState;
}
