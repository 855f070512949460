import { run, runEvent, type RunEvent } from "../../schema/core/wire/http.ts";
import { request, type Connection } from "../connection.ts";
import { events } from "../sse.ts";

export type InvokeOptions = { readonly idempotency_key?: string; readonly version?: string; readonly signal?: AbortSignal };

const headersOf = (options: InvokeOptions): Record<string, string> =>
  options.idempotency_key === undefined ? {} : { "idempotency-key": options.idempotency_key };
const bodyOf = (input: unknown, options: InvokeOptions) => ({
  input,
  ...(options.version === undefined ? {} : { version: options.version }),
});
const pathOf = (name: string) => `/v1/functions/${encodeURIComponent(name)}/invocations`;
const signalOf = (options: InvokeOptions) => (options.signal ? { signal: options.signal } : {});

/** Waits for the run to end. */
export async function invoke(connection: Connection, name: string, input: unknown, options: InvokeOptions) {
  const answer = await request(connection, "POST", pathOf(name), {
    body: bodyOf(input, options),
    headers: headersOf(options),
    ...signalOf(options),
  });
  return run.parse(await answer.json());
}

/** Starts the run and returns at once. */
export async function invokeAsync(connection: Connection, name: string, input: unknown, options: InvokeOptions) {
  const answer = await request(connection, "POST", pathOf(name), {
    body: bodyOf(input, options),
    headers: { ...headersOf(options), prefer: "respond-async" },
    ...signalOf(options),
  });
  return run.parse(await answer.json());
}

/** The run's events as they happen. */
export async function* invokeStream(
  connection: Connection,
  name: string,
  input: unknown,
  options: InvokeOptions,
): AsyncGenerator<RunEvent> {
  const answer = await request(connection, "POST", pathOf(name), {
    body: bodyOf(input, options),
    headers: { ...headersOf(options), accept: "text/event-stream" },
    ...signalOf(options),
  });
  for await (const message of events(answer)) yield runEvent.parse(JSON.parse(message.data));
}
