/** The edge's HTTP surface: what every request gets (an id, CORS, one shape of errors), and the routes. */
import { Hono } from "hono";
import { failure } from "../schema/core/errors.ts";
import { failureResponse, Refusal, type App } from "./http.ts";
import { methodsOf, openApiDocument } from "./openapi.ts";
import { functions } from "./routes/functions.ts";
import { invocations } from "./routes/invocations.ts";
import { keys } from "./routes/keys.ts";
import { openai } from "./routes/openai.ts";
import { runs } from "./routes/runs.ts";
import { sessions } from "./routes/sessions.ts";
import { usage } from "./routes/usage.ts";

const CORS = {
  "access-control-allow-origin": "*",
  "access-control-expose-headers": "x-request-id, retry-after, location, preference-applied",
};
/** `*` does not cover Authorization, so all are named; a client of OpenAI's sends several x-stainless headers. */
const PREFLIGHT = {
  "access-control-allow-methods": "GET, POST, DELETE, OPTIONS",
  "access-control-allow-headers":
    "Authorization, Content-Type, Accept, Idempotency-Key, Prefer, Last-Event-ID, X-Request-Id, OpenAI-Organization, OpenAI-Project, OpenAI-Beta, " +
    "X-Stainless-Lang, X-Stainless-Package-Version, X-Stainless-OS, X-Stainless-Arch, X-Stainless-Runtime, X-Stainless-Runtime-Version, " +
    "X-Stainless-Retry-Count, X-Stainless-Timeout, X-Stainless-Async, X-Stainless-Helper-Method, X-Stainless-Poll-Helper",
  "access-control-max-age": "86400",
};
const REQUEST_ID_PATTERN = /^[A-Za-z0-9._-]{1,64}$/;

export const app = new Hono<App>();

app.use(async (c, next) => {
  const given = c.req.header("x-request-id");
  c.set("request_id", given !== undefined && REQUEST_ID_PATTERN.test(given) ? given : `req_${crypto.randomUUID().replaceAll("-", "")}`);
  if (c.req.method === "OPTIONS") c.res = new Response(null, { status: 204, headers: PREFLIGHT });
  else await next();
  if (c.res.webSocket) return; // an upgrade's headers are not ours to change
  const response = new Response(c.res.body, c.res);
  for (const [name, value] of Object.entries(CORS)) response.headers.set(name, value);
  response.headers.set("x-request-id", c.get("request_id"));
  // Assigning twice, because Hono merges the headers of the response that was there.
  c.res = undefined;
  c.res = response;
});

app.get("/health", (c) => c.json({ status: "ok" }));
app.get("/openapi.json", (c) => c.json(openApiDocument(new URL(c.req.url).origin)));
for (const routes of [functions, invocations, runs, sessions, keys, usage, openai]) app.route("/", routes);

app.notFound((c) => {
  const known = methodsOf(c.req.path);
  if (known.length === 0) return failureResponse(c, failure("not_found"));
  return failureResponse(c, failure("method_not_allowed"), { allow: [...known, "OPTIONS"].join(", ") });
});

app.onError((error, c) => {
  if (error instanceof Refusal) return failureResponse(c, error.error, error.headers);
  const code = isDatabaseFault(error) ? "database_unavailable" : "internal";
  console.error(JSON.stringify({ request_id: c.get("request_id"), code, message: error.message }));
  return failureResponse(c, failure(code));
});

/** The driver's errors of connecting and losing the connection; a refused statement is a bug of ours. */
function isDatabaseFault(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return typeof code === "string" && /^(CONNECT|CONNECTION_|ECONN|ETIMEDOUT|08|57P|53)/.test(code);
}
