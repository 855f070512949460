/**
 * The gateway's HTTP server. A handful of fixed paths: a map is the router. node:http's parser is strict (a request with two
 * lengths, a bare LF or a bad chunk is refused before it is a request); what it refuses is answered once and the connection
 * is closed.
 */
import { createServer as createHttpServer, STATUS_CODES, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { failure, toOpenAIError, toProblem, type Failure } from "../../schema/core/errors.ts";
import { formatInstant } from "../../schema/core/time.ts";
import type { Scope } from "../../schema/core/wire/token.ts";
import { refuseUnread, sendFailure, sendJson, type Exchange } from "./answer.ts";
import { lacksScope, type Credential } from "./auth.ts";
import type { Doors } from "./doors.ts";
import { CONNECTIONS_MAX, HEADER_BYTES_MAX, HEADERS_MS_MAX, KEEP_ALIVE_MS, REQUEST_MS_MAX } from "./limits.ts";
import type { LinkServer } from "./link/server.ts";
import { METRICS_CONTENT_TYPE } from "./metrics.ts";
import { serveInference } from "./openai/inference.ts";
import { listModels, showModel } from "./openai/models.ts";
import { requestId } from "./random.ts";
import { Settling } from "./settling.ts";
import { adminState } from "./state.ts";

type Handler = (request: IncomingMessage, exchange: Exchange, path: string) => void | Promise<void>;
type Route = { readonly method: "GET" | "POST"; readonly handle: Handler };

const MODEL_PREFIX = "/v1/models/";

export function createServer(doors: Doors, links: LinkServer): Server {
  const routes = routesOf(doors);
  const server = createHttpServer(
    {
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: HEADERS_MS_MAX,
      requestTimeout: REQUEST_MS_MAX,
      connectionsCheckingInterval: 1_000,
      keepAliveTimeout: KEEP_ALIVE_MS,
      // Two Authorization headers become one that is no key, instead of the first winning.
      joinDuplicateHeaders: true,
      insecureHTTPParser: false,
      // Node's own refusal says nothing: `dispatch` does.
      requireHostHeader: false,
      noDelay: true,
    },
    (request, response) => void dispatch(routes, request, response),
  );
  server.maxConnections = CONNECTIONS_MAX;
  server.on("upgrade", (request, socket, head) => void links.upgrade(request, socket, head));
  server.on("clientError", refuseUnparsed);
  // CONNECT is for proxies.
  server.on("connect", (_, socket) => answerRaw(socket, 405, failure("method_not_allowed")));
  return server;
}

async function dispatch(routes: ReadonlyMap<string, Route>, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = pathOf(request.url ?? "");
  const openai = path === null || path.startsWith("/v1/");
  const exchange: Exchange = { request_id: requestId(), response, openai };
  if (path === null)
    return sendFailure(exchange, failure("invalid_request", "the request target is not a path"), { headers: { connection: "close" } });
  if (request.headers.host === undefined && request.httpVersion !== "1.0")
    return sendFailure(exchange, failure("invalid_request", "the request has no Host header"), { headers: { connection: "close" } });
  const route = routes.get(path.startsWith(MODEL_PREFIX) ? MODEL_PREFIX : path);
  if (route === undefined) return refuseUnread(request, exchange, failure("not_found", `nothing at ${path}`));
  if (route.method !== request.method && !(route.method === "GET" && request.method === "HEAD"))
    return refuseUnread(request, exchange, failure("method_not_allowed", `${path} takes ${route.method}`), { allow: route.method });
  try {
    await route.handle(request, exchange, path);
  } catch (error) {
    // A bug of ours: the client is told so, the log has the rest.
    process.stderr.write(
      `${JSON.stringify({ level: "error", request_id: exchange.request_id, error: String(error), stack: (error as Error).stack })}\n`,
    );
    if (response.headersSent) response.destroy();
    else sendFailure(exchange, failure("internal"));
  }
}

/** Only origin-form: an absolute target is for proxies. */
function pathOf(target: string): string | null {
  if (!target.startsWith("/") || target.startsWith("//")) return null;
  const end = target.search(/[?#]/);
  return end === -1 ? target : target.slice(0, end);
}

function routesOf(doors: Doors): ReadonlyMap<string, Route> {
  const { runtime, metrics } = doors;
  const get = (handle: Handler): Route => ({ method: "GET", handle });
  const post = (handle: Handler): Route => ({ method: "POST", handle });

  const settling = new Settling(() => doors.meter.settle());

  const guarded =
    (needs: readonly Scope[] | ((credential: Credential) => Failure | null), handle: Handler): Handler =>
    async (request, exchange, path) => {
      const auth = await doors.auth.authenticate(request.headers.authorization);
      const why =
        auth.type === "refused"
          ? auth.failure
          : typeof needs === "function"
            ? needs(auth.credential)
            : lacksScope(auth.credential, ...needs);
      return why === null ? handle(request, exchange, path) : refuseUnread(request, exchange, why);
    };

  return new Map<string, Route>([
    ["/v1/chat/completions", post((request, exchange) => serveInference(doors, "chat", request, exchange))],
    ["/v1/completions", post((request, exchange) => serveInference(doors, "completion", request, exchange))],
    ["/v1/models", get(guarded(["infer", "invoke", "admin"], (_, exchange) => listModels(doors, exchange)))],
    [
      MODEL_PREFIX,
      get(
        guarded(["infer", "invoke", "admin"], (_, exchange, path) => showModel(doors, decoded(path.slice(MODEL_PREFIX.length)), exchange)),
      ),
    ],
    [
      "/link",
      get((_, exchange) =>
        sendFailure(exchange, failure("upgrade_required"), { headers: { upgrade: "websocket", connection: "upgrade" } }),
      ),
    ],
    [
      "/health",
      get((_, exchange) => {
        const ready = runtime.phase === "commanding" && doors.meter.state() === "open";
        sendJson(exchange, ready ? 200 : 503, { live: true, ready, phase: runtime.phase, cell: doors.cell, epoch: doors.epoch });
      }),
    ],
    [
      "/metrics",
      get(async (_, { response, request_id }) => {
        const text = await metrics.registry.metrics();
        response.writeHead(200, { "content-type": METRICS_CONTENT_TYPE, "x-request-id": request_id });
        response.end(text);
      }),
    ],
    ["/admin/state", get(guarded(["admin"], (_, exchange) => sendJson(exchange, 200, adminState(doors))))],
    [
      "/internal/settle",
      post(
        guarded(maySettle, async (request, exchange) => {
          request.resume();
          const settled = await settling.ask();
          if (settled.type === "settled") return sendJson(exchange, 200, { watermark: formatInstant(settled.watermark) });
          sendFailure(exchange, failure("database_unavailable", settled.reason));
        }),
      ),
    ],
  ]);
}

/** A settlement is work for the whole cell: the edge asks on behalf of those who may read usage, or an administrator does. */
const maySettle = (credential: Credential): Failure | null => lacksScope(credential, credential.kind === "token" ? "usage" : "admin");

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

const UNPARSED: Readonly<Record<string, number>> = { HPE_HEADER_OVERFLOW: 431, ERR_HTTP_REQUEST_TIMEOUT: 408 };

function refuseUnparsed(error: Error & { code?: string }, socket: Duplex): void {
  if (error.code === "ECONNRESET" || !socket.writable) return void socket.destroy();
  answerRaw(
    socket,
    UNPARSED[error.code ?? ""] ?? 400,
    failure("invalid_request", `not an HTTP/1.1 request: ${error.code ?? "unreadable"}`),
  );
}

/** For what never became a request: one answer, and the connection is closed. */
function answerRaw(socket: Duplex, status: number, why: Failure): void {
  const id = requestId();
  const body = JSON.stringify({ ...toOpenAIError(why), ...toProblem(why, id), status });
  const head = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? "Error"}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}`;
  socket.end(`${head}\r\nx-request-id: ${id}\r\nconnection: close\r\n\r\n${body}`, () => socket.destroy());
}
