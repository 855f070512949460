/** The agent's HTTP: who may ask, what was asked, and the node's answer as JSON or as a problem. */
import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { createServer } from "node:http";
import type { z } from "zod";
import type { Feed } from "./feed.ts";
import { BODY_BYTES_MAX, CONNECTIONS_MAX, DRAIN_MS } from "./limits.ts";
import type { AgentNode } from "./node.ts";
import type { AgentFailure, Outcome } from "./wire.ts";
import { claimCommand, launchCommand, ok, refused, releaseCommand, stopCommand, toAgentProblem, toWire } from "./wire.ts";

type Request = { readonly body: unknown; readonly query: URLSearchParams; readonly gone: AbortSignal };
type Route = (request: Request) => Outcome<unknown> | Promise<Outcome<unknown>>;

export class AgentServer {
  readonly #server: Server;
  readonly #routes: ReadonlyMap<string, ReadonlyMap<string, Route>>;
  readonly #token_digest: Buffer;
  #closing = false;

  constructor(node: AgentNode, feed: Feed, token: string) {
    this.#token_digest = digest(token);
    this.#routes = new Map([
      ["/v1/claim", new Map([["POST", parsed(claimCommand, (command) => node.claim(command))]])],
      ["/v1/groups/launch", new Map([["POST", parsed(launchCommand, (command) => node.launch(command))]])],
      ["/v1/groups/stop", new Map([["POST", parsed(stopCommand, (command) => node.stop(command))]])],
      ["/v1/release", new Map([["POST", parsed(releaseCommand, (command) => node.release(command))]])],
      ["/v1/node", new Map([["GET", () => ok(node.snapshot())]])],
      ["/v1/events", new Map([["GET", (request: Request) => readEvents(feed, request)]])],
    ]);
    this.#server = createServer({ requestTimeout: 10_000, headersTimeout: 5_000, maxHeaderSize: 16_384 }, (request, response) => {
      void this.#serve(request, response);
    });
    this.#server.maxConnections = CONNECTIONS_MAX;
  }

  listen(): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(0, "127.0.0.1", () => {
        const address = this.#server.address();
        if (address !== null && typeof address === "object") resolve(`http://127.0.0.1:${address.port}`);
        else reject(new Error("no address"));
      });
    });
  }

  /** Takes nothing new; what is being answered has DRAIN_MS. */
  async close(): Promise<void> {
    this.#closing = true;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const timer = setTimeout(() => this.#server.closeAllConnections(), DRAIN_MS);
    await closed;
    clearTimeout(timer);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    let outcome: Outcome<unknown>;
    try {
      outcome = await this.#answer(request, gone.signal);
    } catch (error) {
      console.error(`${request.method ?? ""} ${request.url ?? ""} failed:`, error);
      outcome = refused({ code: "internal", detail: "see the agent's log" });
    }
    send(response, outcome, this.#closing);
  }

  async #answer(request: IncomingMessage, gone: AbortSignal): Promise<Outcome<unknown>> {
    const failure = this.#checkToken(request);
    if (failure !== null) return refused(failure);
    const url = URL.parse(request.url ?? "", "http://agent");
    const methods = url === null ? undefined : this.#routes.get(url.pathname);
    if (url === null || methods === undefined) return refused({ code: "not_found", detail: "there is nothing at this path" });
    const route = methods.get(request.method ?? "");
    if (route === undefined) return refused({ code: "method_not_allowed", detail: `use ${[...methods.keys()].join(", ")}` });
    const body = request.method === "POST" ? await readBody(request) : ok(null);
    return body.type === "refused" ? body : route({ body: body.value, query: url.searchParams, gone });
  }

  #checkToken(request: IncomingMessage): AgentFailure | null {
    const token = /^Bearer (\S+)$/.exec(request.headers.authorization ?? "")?.[1];
    if (token === undefined) return { code: "missing_key", detail: "send the bearer token of agent.json" };
    // Digests are of one length, so that comparing them tells nothing of the token's.
    return timingSafeEqual(digest(token), this.#token_digest) ? null : { code: "invalid_key", detail: "not this agent's token" };
  }
}

const digest = (text: string): Buffer => createHash("sha256").update(text).digest();

function parsed<T>(schema: z.ZodType<T>, route: (command: T) => Outcome<unknown> | Promise<Outcome<unknown>>): Route {
  return ({ body }) => {
    const result = schema.safeParse(body);
    if (result.success) return route(result.data);
    const [issue] = result.error.issues;
    const param = issue?.path.join(".") ?? "";
    return refused({ code: "invalid_request", detail: `${param === "" ? "the body" : param}: ${issue?.message ?? "not valid"}`, param });
  };
}

async function readEvents(feed: Feed, { query, gone }: Request): Promise<Outcome<unknown>> {
  const number = (name: string): number => (/^\d{1,15}$/.test(query.get(name) ?? "") ? Number(query.get(name)) : 0);
  return ok(await feed.read(query.get("stream") ?? "", number("after"), number("wait_ms"), gone));
}

async function readBody(request: IncomingMessage): Promise<Outcome<unknown>> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > BODY_BYTES_MAX) return refused({ code: "body_too_large", detail: `at most ${BODY_BYTES_MAX} bytes` });
    chunks.push(chunk);
  }
  try {
    return ok(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks))));
  } catch {
    return refused({ code: "malformed_json", detail: "the body is not JSON in UTF-8" });
  }
}

function send(response: ServerResponse, outcome: Outcome<unknown>, last: boolean): void {
  if (response.destroyed) return;
  // The rest of a body that was too large is not read, and a server that closes does not wait for idle connections.
  const close = last || (outcome.type === "refused" && outcome.failure.code === "body_too_large") ? { connection: "close" } : {};
  if (outcome.type === "ok") {
    response.writeHead(200, { "content-type": "application/json", ...close }).end(toWire(outcome.value));
    return;
  }
  const problem = toAgentProblem(outcome.failure);
  response.writeHead(problem.status, { "content-type": "application/problem+json", ...close }).end(toWire(problem));
}
