/** The OpenAPI document, made from the schemas that validate (schema/core/wire). */
import { z } from "zod";
import * as http from "../schema/core/wire/http.ts";
import { chatMessage, chatRequest, completionRequest } from "../schema/core/wire/chat.ts";
import { wireFailure } from "../schema/core/wire/link.ts";
import { sessionEvent } from "../schema/core/wire/session.ts";
import type { Scope } from "../schema/core/wire/token.ts";

type Operation = {
  readonly method: "get" | "post" | "delete";
  readonly path: string;
  readonly summary: string;
  readonly scope?: Scope;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: z.ZodType;
  readonly answers: Readonly<Record<string, { readonly description: string; readonly schema?: z.ZodType; readonly type?: string }>>;
};

const OPERATIONS: readonly Operation[] = [
  {
    method: "post",
    path: "/v1/functions",
    summary: "Deploy a function",
    scope: "deploy",
    body: http.deployRequest,
    answers: {
      200: { description: "The version was there already", schema: http.functionVersion },
      201: { description: "A new version", schema: http.functionVersion },
    },
  },
  {
    method: "get",
    path: "/v1/functions",
    summary: "List functions",
    scope: "deploy",
    answers: { 200: { description: "Functions by name", schema: http.functionList } },
  },
  {
    method: "post",
    path: "/v1/functions/{name}/invocations",
    summary: "Start a run",
    scope: "invoke",
    headers: {
      "Idempotency-Key": "the same key and body are the same run",
      Prefer: "`respond-async`: answer 202 at once",
      Accept: "`text/event-stream`: answer with the run's events",
    },
    body: http.invocationRequest,
    answers: {
      200: { description: "The run is over", schema: http.run },
      202: { description: "The run goes on; see Location", schema: http.run },
    },
  },
  {
    method: "get",
    path: "/v1/runs/{run}",
    summary: "A run",
    scope: "invoke",
    answers: { 200: { description: "The run", schema: http.run } },
  },
  {
    method: "get",
    path: "/v1/runs/{run}/events",
    summary: "A run's events, as they happen",
    scope: "invoke",
    headers: { "Last-Event-ID": "resume after this event" },
    answers: { 200: { description: "Server-sent events; `data` is a run event", schema: http.runEvent, type: "text/event-stream" } },
  },
  {
    method: "get",
    path: "/v1/runs/{run}/logs",
    summary: "A page of a run's log",
    scope: "invoke",
    query: { after: "the `seq` after which the page begins; 0 by default" },
    answers: { 200: { description: "Lines in order, the last `seq`, and how many later lines were not kept", schema: http.logList } },
  },
  {
    method: "post",
    path: "/v1/runs/{run}/cancel",
    summary: "Stop a run",
    scope: "invoke",
    answers: { 200: { description: "The run, stopped", schema: http.run } },
  },
  {
    method: "post",
    path: "/v1/sessions",
    summary: "Open a session",
    scope: "invoke",
    body: http.sessionCreate,
    answers: { 201: { description: "The session", schema: http.session } },
  },
  {
    method: "get",
    path: "/v1/sessions/{session}",
    summary: "A session",
    scope: "invoke",
    answers: { 200: { description: "The session", schema: http.session } },
  },
  {
    method: "get",
    path: "/v1/sessions/{session}/events",
    summary: "A page of a session's log",
    scope: "invoke",
    query: { after: "the `seq` after which the page begins; 0 by default" },
    answers: { 200: { description: "Events in order, the last `seq`, and what was cut off", schema: http.sessionPage } },
  },
  {
    method: "get",
    path: "/v1/sessions/{session}/logs",
    summary: "A page of what a session's turns logged",
    scope: "invoke",
    query: { after: "the `seq` after which the page begins; 0 by default" },
    answers: { 200: { description: "Lines in order, the last `seq`, and how many older lines were dropped", schema: http.sessionLogList } },
  },
  {
    method: "get",
    path: "/v1/sessions/{session}/connect",
    summary: "Speak with a session (WebSocket, millrace.session.v1)",
    scope: "invoke",
    answers: { 101: { description: "Switching protocols" } },
  },
  {
    method: "post",
    path: "/v1/sessions/{session}/tickets",
    summary: "A short-lived ticket for browsers",
    scope: "invoke",
    answers: { 201: { description: "The ticket", schema: http.ticket } },
  },
  {
    method: "get",
    path: "/v1/usage",
    summary: "What was used, what it cost, and that it adds up",
    scope: "usage",
    query: {
      group_by: `up to two of ${http.USAGE_GROUPS.join(", ")}, separated by a comma`,
      from: "RFC 3339; 30 days before `to` by default",
      to: "RFC 3339; now by default",
      settle: "`true`: meter up to this moment first",
    },
    answers: { 200: { description: "The report", schema: http.usageReport } },
  },
  {
    method: "post",
    path: "/v1/keys",
    summary: "Create an API key",
    scope: "admin",
    body: http.keyCreate,
    answers: { 201: { description: "The key, shown once", schema: http.keyCreated } },
  },
  {
    method: "get",
    path: "/v1/keys",
    summary: "List API keys",
    scope: "admin",
    answers: { 200: { description: "Keys", schema: http.keyList } },
  },
  { method: "delete", path: "/v1/keys/{key}", summary: "Revoke an API key", scope: "admin", answers: { 204: { description: "Revoked" } } },
  {
    method: "post",
    path: "/v1/chat/completions",
    summary: "Chat with a model (OpenAI)",
    scope: "infer",
    body: chatRequest,
    answers: { 200: { description: "As OpenAI's API answers" } },
  },
  {
    method: "post",
    path: "/v1/completions",
    summary: "Complete a prompt (OpenAI)",
    scope: "infer",
    body: completionRequest,
    answers: { 200: { description: "As OpenAI's API answers" } },
  },
  {
    method: "get",
    path: "/v1/models",
    summary: "List models (OpenAI)",
    scope: "infer",
    answers: { 200: { description: "As OpenAI's API answers" } },
  },
  {
    method: "get",
    path: "/v1/models/{model}",
    summary: "A model (OpenAI)",
    scope: "infer",
    answers: { 200: { description: "As OpenAI's API answers" } },
  },
  { method: "get", path: "/health", summary: "Whether the edge is up", answers: { 200: { description: "It is" } } },
];

/**
 * Every object of the wire by its name in schema/core, and what is written more than once inside of them: the document has one of
 * each, under components. A name stands for one shape only: what a client sends is described as sent, the rest as answered.
 */
const NAMED: Readonly<Record<string, z.ZodType>> = {
  ...Object.fromEntries(Object.entries(http).filter(([, it]) => it instanceof z.ZodObject || it instanceof z.ZodDiscriminatedUnion)),
  chatRequest,
  completionRequest,
  chatMessage,
  chatContent: chatMessage.options[0].shape.content,
  failure: wireFailure,
  errorCode: wireFailure.shape.code,
  sessionEvent,
};
const names = z.registry<{ id: string }>();
for (const [id, schema] of Object.entries(NAMED)) names.add(schema, { id });

const REF = "#/components/schemas/";
const described = (io: "input" | "output") => z.toJSONSchema(names, { io, unrepresentable: "any", uri: (id) => REF + id }).schemas;

/** The bodies of requests and what they consist of. */
const SENT: ReadonlySet<string> = new Set([
  ...OPERATIONS.flatMap(({ body }) => (body ? [nameOf(body)] : [])),
  "chatMessage",
  "chatContent",
]);

function components(): Record<string, object> {
  const [sent, answered] = [described("input"), described("output")];
  return Object.fromEntries(
    Object.keys(NAMED).map((id) => {
      const { $schema: _, $id: __, ...json } = (SENT.has(id) ? sent : answered)[id] ?? {};
      return [id, json];
    }),
  );
}

function nameOf(schema: z.ZodType): string {
  const name = Object.entries(NAMED).find(([, named]) => named === schema)?.[0];
  if (name === undefined) throw new Error("a schema of an operation has no name");
  return name;
}

const refTo = (schema: z.ZodType) => ({ $ref: REF + nameOf(schema) });

function operation(o: Operation) {
  const named = [...o.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({ name, in: "path", required: true, schema: { type: "string" } }));
  const others = [
    ...Object.entries(o.query ?? {}).map(([name, description]) => ({ name, in: "query", description, schema: { type: "string" } })),
    ...Object.entries(o.headers ?? {}).map(([name, description]) => ({ name, in: "header", description, schema: { type: "string" } })),
  ];
  const answers = Object.entries(o.answers).map(([status, { description, schema, type }]) => [
    status,
    { description, ...(schema ? { content: { [type ?? "application/json"]: { schema: refTo(schema) } } } : {}) },
  ]);
  return {
    summary: o.summary,
    operationId: `${o.method}${o.path.replace(/[^a-z]+(\w)/gi, (_, letter: string) => letter.toUpperCase()).replace(/\W/g, "")}`,
    ...(o.scope === undefined ? { security: [] } : { description: `Needs the scope \`${o.scope}\`.` }),
    parameters: [...named, ...others],
    ...(o.body ? { requestBody: { required: true, content: { "application/json": { schema: refTo(o.body) } } } } : {}),
    responses: {
      ...(Object.fromEntries(answers) as Record<string, object>),
      default: { description: "An error", content: { "application/problem+json": { schema: refTo(http.problem) } } },
    },
  };
}

export function openApiDocument(server: string): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const o of OPERATIONS) (paths[o.path] ??= {})[o.method] = operation(o);
  return {
    openapi: "3.1.0",
    info: { title: "Millrace", version: "1", description: "Run agents at the edge, batch their inference on your own GPUs." },
    servers: [{ url: server }],
    security: [{ key: [] }],
    paths,
    components: {
      schemas: components(),
      securitySchemes: { key: { type: "http", scheme: "bearer", bearerFormat: "mr_…" } },
    },
  };
}

/** Which methods a path knows: for 405 and its Allow header. */
export function methodsOf(path: string): string[] {
  const methods = OPERATIONS.filter((o) => new RegExp(`^${o.path.replace(/\{\w+\}/g, "[^/]+")}$`).test(path)).map((o) =>
    o.method.toUpperCase(),
  );
  return [...new Set(methods)];
}
