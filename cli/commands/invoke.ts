import { run, runEvent, type RunEvent } from "../../schema/core/wire/http.ts";
import { ERRORS, failure, toProblem } from "../../schema/core/errors.ts";
import { ApiFault, read, request, UsageFault, type Connection } from "../connection.ts";
import { reason } from "../reason.ts";
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
  return read(answer, run);
}

/** Starts the run and returns at once. */
export async function invokeAsync(connection: Connection, name: string, input: unknown, options: InvokeOptions) {
  const answer = await request(connection, "POST", pathOf(name), {
    body: bodyOf(input, options),
    headers: { ...headersOf(options), prefer: "respond-async" },
    ...signalOf(options),
  });
  return read(answer, run);
}

/** The run's events as they happen, to `run.done` or `run.failed`: a stream that ends or breaks before is a fault that says how to look. */
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
  let run_id: string | null = null;
  const unfinished = (what: string) =>
    new UsageFault(
      `${what}; ` + (run_id === null ? "it is not known whether a run was started." : `the run may go on: millrace logs ${run_id}`),
    );
  const messages = events(answer);
  try {
    for (;;) {
      let event: RunEvent;
      try {
        const next = await messages.next();
        if (next.done) throw unfinished("the event stream ended before the run did");
        event = runEvent.parse(JSON.parse(next.value.data));
      } catch (error) {
        throw error instanceof UsageFault ? error : unfinished(`the event stream broke (${reason(error)})`);
      }
      if (event.type === "run.started") run_id = event.run;
      yield event;
      if (event.type === "run.done" || event.type === "run.failed") return;
    }
  } finally {
    await messages.return(undefined);
  }
}

/** What a failed run is to whoever waits for it: the same fault with and without a stream. */
export const faultOf = ({ error }: Extract<RunEvent, { type: "run.failed" }>): ApiFault =>
  new ApiFault(ERRORS[error.code].status, toProblem(failure(error.code, error.detail, error.param)));
