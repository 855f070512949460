/** Millrace over HTTP: for Node and browsers alike, on `fetch` alone. */
import type { z } from "zod";
import type { logList, run, session, sessionLogList, ticket } from "../../schema/core/wire/http.ts";
import type { RunEvent } from "../../schema/core/wire/http.ts";
import type { SessionEvent } from "../../schema/core/wire/session.ts";
import { errorOf, MillraceClientError } from "./error.ts";
import { readServerSentEvents } from "./sse.ts";

export type RunResult = z.infer<typeof run>;
export type SessionInfo = z.infer<typeof session>;
export type Ticket = z.infer<typeof ticket>;
export type RunLogs = z.infer<typeof logList>;
export type SessionLogs = z.infer<typeof sessionLogList>;
export type SessionPage = { readonly events: SessionEvent[]; readonly seq: number; readonly truncated_before?: number };

export type InvokeOptions = {
  /** An alias or a version's id; `live` by default. */
  readonly version?: string;
  /** The same key with the same input is the same run, however often it is sent. */
  readonly idempotency_key?: string;
  readonly signal?: AbortSignal;
};

export type HttpOptions = {
  /** The edge's base URL. */
  readonly url: string;
  /** An API key: `mr_…`. */
  readonly key: string;
  readonly fetch?: typeof globalThis.fetch;
};

export type HttpClient = {
  /** Runs the function to its end. A run that failed is an answer (`status: "failed"`, `error`), not an exception. */
  invoke(name: string, input: unknown, options?: InvokeOptions): Promise<RunResult>;
  /** Starts the run and returns at once. */
  start(name: string, input: unknown, options?: InvokeOptions): Promise<RunResult>;
  /** The run's events as they happen, to `run.done` or `run.failed`. Leaving the loop cancels nothing. */
  stream(name: string, input: unknown, options?: InvokeOptions): AsyncGenerator<RunEvent>;
  run(id: string): Promise<RunResult>;
  /** A run's events after the one numbered `after`, to its end. */
  runEvents(id: string, after?: number): AsyncGenerator<RunEvent>;
  /** What the run logged, up to the last line at the moment of asking. */
  runLogs(id: string): Promise<RunLogs>;
  cancelRun(id: string): Promise<RunResult>;
  createSession(of: { function: string; version?: string }): Promise<SessionInfo>;
  session(id: string): Promise<SessionInfo>;
  /** A page of the session's log, after `seq`. */
  sessionEvents(id: string, after?: number): Promise<SessionPage>;
  /** A page of what the session's turns logged, after `seq`. */
  sessionLogs(id: string, after?: number): Promise<SessionLogs>;
  /** A short-lived credential with which a browser connects to this one session. */
  ticket(session: string): Promise<Ticket>;
};

type Body = { readonly method: "GET" } | { readonly method: "POST"; readonly body: unknown };

export function createHttpClient(options: HttpOptions): HttpClient {
  const base = options.url.replace(/\/+$/, "");
  const send = options.fetch ?? globalThis.fetch;

  async function request(path: string, what: Body, headers: Record<string, string> = {}, signal?: AbortSignal): Promise<Response> {
    const init: RequestInit = {
      method: what.method,
      headers: {
        authorization: `Bearer ${options.key}`,
        ...(what.method === "POST" ? { "content-type": "application/json" } : {}),
        ...headers,
      },
      ...(what.method === "POST" ? { body: JSON.stringify(what.body) } : {}),
      ...(signal ? { signal } : {}),
    };
    let response: Response;
    try {
      response = await send(`${base}${path}`, init);
    } catch (cause) {
      const message = `${base} cannot be reached: ${cause instanceof Error ? cause.message : String(cause)}`;
      throw new MillraceClientError({ code: "network", message, retryable: true, cause });
    }
    if (!response.ok) throw await errorOf(response);
    return response;
  }

  const json = async <T>(path: string, what: Body): Promise<T> => (await (await request(path, what)).json()) as T;

  async function invocation(
    name: string,
    input: unknown,
    { version, idempotency_key, signal }: InvokeOptions,
    headers: Record<string, string>,
  ) {
    const body = { input, ...(version === undefined ? {} : { version }) };
    const key = idempotency_key === undefined ? undefined : { "idempotency-key": idempotency_key };
    return request(`/v1/functions/${encodeURIComponent(name)}/invocations`, { method: "POST", body }, { ...headers, ...key }, signal);
  }

  const run = (id: string): Promise<RunResult> => json(`/v1/runs/${encodeURIComponent(id)}`, { method: "GET" });

  async function invoke(name: string, input: unknown, more: InvokeOptions = {}): Promise<RunResult> {
    try {
      return (await (await invocation(name, input, more, {})).json()) as RunResult;
    } catch (error) {
      // A run that failed is answered with its error's status, and named in the problem.
      if (error instanceof MillraceClientError && error.run !== undefined) return run(error.run);
      throw error;
    }
  }

  async function* events(response: Response): AsyncGenerator<RunEvent> {
    if (!response.body) throw new MillraceClientError({ code: "network", message: "the answer has no body" });
    for await (const event of readServerSentEvents(response.body)) yield JSON.parse(event.data) as RunEvent;
  }

  async function* stream(name: string, input: unknown, more: InvokeOptions = {}): AsyncGenerator<RunEvent> {
    yield* events(await invocation(name, input, more, { accept: "text/event-stream" }));
  }

  /** The edge answers page by page. */
  async function runLogs(id: string): Promise<RunLogs> {
    const page = (after: number) => json<RunLogs>(`/v1/runs/${encodeURIComponent(id)}/logs?after=${after}`, { method: "GET" });
    const first = await page(0);
    const lines = [...first.lines];
    let { dropped } = first;
    for (let last = lines.at(-1); last && last.seq < first.seq; last = lines.at(-1)) {
      const next = await page(last.seq);
      if (next.lines.length === 0) break;
      lines.push(...next.lines);
      dropped = next.dropped;
    }
    return { lines, seq: first.seq, dropped };
  }

  return {
    invoke,
    start: async (name, input, more = {}) => (await (await invocation(name, input, more, { prefer: "respond-async" })).json()) as RunResult,
    stream,
    run,
    async *runEvents(id, after = 0) {
      yield* events(await request(`/v1/runs/${encodeURIComponent(id)}/events?after=${after}`, { method: "GET" }));
    },
    runLogs,
    cancelRun: (id) => json(`/v1/runs/${encodeURIComponent(id)}/cancel`, { method: "POST", body: {} }),
    createSession: (body) => json("/v1/sessions", { method: "POST", body }),
    session: (id) => json(`/v1/sessions/${encodeURIComponent(id)}`, { method: "GET" }),
    sessionEvents: (id, after = 0) => json(`/v1/sessions/${encodeURIComponent(id)}/events?after=${after}`, { method: "GET" }),
    sessionLogs: (id, after = 0) => json(`/v1/sessions/${encodeURIComponent(id)}/logs?after=${after}`, { method: "GET" }),
    ticket: (id) => json(`/v1/sessions/${encodeURIComponent(id)}/tickets`, { method: "POST", body: {} }),
  };
}
