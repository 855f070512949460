/**
 * Starting runs. The run's id comes from the Idempotency-Key where there is one, so that the Run object itself makes the same
 * request the same run:
 *   answered in one piece   same key while the run is going: 409; once it is over: its result
 *   as an event stream      same key: the same run's events, from the start
 *   respond-async           same key: 202 with the same run
 * Another function or input under the same key is 422. A run that failed before its code began (the database was away) is not kept
 * under the key: the same request again tries again. A client that goes away does not stop its run: it may come back for it.
 */
import { Hono } from "hono";
import { failure } from "../../schema/core/errors.ts";
import { hashParts } from "../../schema/core/hash.ts";
import { asId, deriveId, randomId, type RunId } from "../../schema/core/ids.ts";
import { functionName, invocationRequest } from "../../schema/core/wire/http.ts";
import { resolveFunction } from "../functions.ts";
import { callerWith, failureResponse, jsonBody, Refusal, refuse, type App, type Ctx } from "../http.ts";
import type { RunObject, RunSpec, RunView } from "../objects/run-spec.ts";
import { runBody, sseResponse } from "./runs.ts";

export const invocations = new Hono<App>();

const IDEMPOTENCY_KEY_PATTERN = /^[\x21-\x7e]{1,255}$/;

invocations.post("/v1/functions/:name/invocations", async (c) => {
  const { tenant, project, key } = await callerWith(c, "invoke");
  const owner = { tenant, project };
  const name = functionName.safeParse(c.req.param("name"));
  const body = await jsonBody(c, invocationRequest);
  const found = name.success ? await resolveFunction(c.env, { tenant, project, name: name.data, version: body.version }) : null;
  if (!found) throw new Refusal(failure("function_not_found"));
  const idempotency_key = idempotencyKey(c);
  const run = idempotency_key === undefined ? newRunId() : deriveId("run", tenant, project, idempotency_key);
  const input = JSON.stringify(body.input ?? null);
  const spec: RunSpec = {
    run,
    identity: {
      tenant,
      project,
      key,
      function: found.function,
      function_name: found.name,
      version: found.version,
      program: asId<"program">(run),
      run,
      agent: found.name,
      path_prefix: "",
      depth: 0,
    },
    code_hash: found.code_hash,
    config_hash: found.config_hash,
    config: found.config,
    input,
    request: hashParts("invocation", found.function, body.version ?? "", input),
  };
  const object = c.env.RUNS.getByName(run) as unknown as RunObject;
  const started = await object.start(spec);
  if (started.type === "refused") throw new Refusal(started.error);
  const location = `/v1/runs/${run}`;

  if (/(^|[\s,;])respond-async($|[\s,;])/i.test(c.req.header("prefer") ?? "")) {
    return c.json(runBody(started.view), 202, { location, "preference-applied": "respond-async" });
  }
  if (/text\/event-stream/i.test(c.req.header("accept") ?? "")) {
    const stream = await object.events({ ...owner, key }, 0);
    return stream ? sseResponse(stream, { location }) : failureResponse(c, failure("rate_limited", "The run has too many readers."));
  }
  if (started.type === "attached" && !started.outcome) {
    return failureResponse(c, failure("idempotency_in_flight"), { location, "retry-after": "1" });
  }
  const view = await object.finished(owner);
  return view ? resultResponse(c, view, location) : failureResponse(c, failure("run_not_found"));
});

function resultResponse(c: Ctx, view: RunView, location: string): Response {
  if (view.error) return failureResponse(c, view.error, { location }, { run: view.run });
  return c.json(runBody(view), 200, { location });
}

function idempotencyKey(c: Ctx): string | undefined {
  const key = c.req.header("idempotency-key");
  if (key === undefined) return undefined;
  return IDEMPOTENCY_KEY_PATTERN.test(key)
    ? key
    : refuse("invalid_request", "An Idempotency-Key is 1 to 255 visible characters.", "Idempotency-Key");
}

const newRunId = (): RunId => randomId("run", crypto.getRandomValues(new Uint8Array(16)));
