/**
 * The client library: Millrace from Node (22 or newer) and browsers, with no dependencies.
 *
 *   const millrace = createClient({ url, key });
 *   const { output } = await millrace.invoke("swarm", { question });
 *   const session = await millrace.connectSession({ function: "swarm" });
 *   await session.send("hello");
 *   for await (const event of session) …
 *
 * A browser must not hold an API key: it uses `openSession` with a `ticket` function that asks its own server, which asks
 * `client.ticket(session)`.
 */
import { createHttpClient, type HttpClient, type HttpOptions } from "./http.ts";
import { openSession, type SessionConnection, type SessionOptions } from "./session.ts";

export { jitteredBackoff, type Backoff } from "./backoff.ts";
export { MillraceClientError, type ClientErrorCode } from "./error.ts";
export type { HttpClient, HttpOptions, InvokeOptions, RunResult, SessionInfo, SessionPage, Ticket } from "./http.ts";
export {
  openSession,
  type SessionConnection,
  type SessionItem,
  type SessionOptions,
  type SessionStatus,
  type Truncated,
} from "./session.ts";
export type { RunEvent } from "../../schema/core/wire/http.ts";
export type { SessionEvent } from "../../schema/core/wire/session.ts";

/** Either a session that exists, or a function of which a new one is made. */
export type ConnectOptions = Partial<Omit<SessionOptions, "url" | "ticket">> & { readonly function?: string; readonly version?: string };

export type Client = HttpClient & {
  connectSession(options: ConnectOptions): Promise<SessionConnection & { readonly id: string }>;
};

export function createClient(options: HttpOptions): Client {
  const http = createHttpClient(options);

  async function connectSession({ function: name, version, session, ...more }: ConnectOptions) {
    const id = session ?? (await create(name, version));
    const connection = openSession({ ...more, url: options.url, session: id, ticket: async () => (await http.ticket(id)).ticket });
    return Object.assign(connection, { id });
  }

  async function create(name: string | undefined, version: string | undefined): Promise<string> {
    if (name === undefined) throw new TypeError("connectSession needs a session or a function");
    return (await http.createSession({ function: name, ...(version === undefined ? {} : { version }) })).session;
  }

  return { ...http, connectSession };
}
