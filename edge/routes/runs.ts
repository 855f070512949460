/** Runs that were started: their state, events, log, and how to stop one. Another tenant's run is not there. */
import { Hono } from "hono";
import { failure } from "../../schema/core/errors.ts";
import { ID_PATTERN } from "../../schema/core/ids.ts";
import type { logList, run as runSchema } from "../../schema/core/wire/http.ts";
import type { z } from "zod";
import { callerWith, failureResponse, instant, Refusal, refuse, type App, type Ctx } from "../http.ts";
import type { Owner, RunObject, RunView } from "../objects/run-spec.ts";

export const runs = new Hono<App>();

runs.get("/v1/runs/:run", async (c) => {
  const { object, owner } = await reach(c);
  return c.json(runBody(known(await object.view(owner))));
});

runs.get("/v1/runs/:run/events", async (c) => {
  const { object, owner, key } = await reach(c);
  const after = lastEventId(c);
  known(await object.view(owner));
  const stream = await object.events({ ...owner, key }, after);
  return stream ? sseResponse(stream) : failureResponse(c, failure("rate_limited", "The run has too many readers."));
});

runs.get("/v1/runs/:run/logs", async (c) => {
  const { object, owner, run } = await reach(c);
  const { lines, seq, dropped } = known(await object.logs(owner, afterOf(c, "a line")));
  const body: z.infer<typeof logList> = {
    lines: lines.map(({ seq, at_ms, level, text }) => ({ run, seq, at: instant(at_ms), level, text })),
    seq,
    dropped,
  };
  return c.json(body);
});

runs.post("/v1/runs/:run/cancel", async (c) => {
  const { object, owner } = await reach(c);
  return c.json(runBody(known(await object.cancel(owner, "cancelled by the client"))));
});

async function reach(c: Ctx): Promise<{ object: RunObject; owner: Owner; key: string; run: string }> {
  const { tenant, project, key } = await callerWith(c, "invoke");
  const run = c.req.param("run") ?? "";
  if (!run.startsWith("run_") || !ID_PATTERN.test(run)) refuse("run_not_found");
  return { object: c.env.RUNS.getByName(run) as unknown as RunObject, owner: { tenant, project }, key, run };
}

function known<T>(found: T | null): T {
  if (found === null) throw new Refusal(failure("run_not_found"));
  return found;
}

export function afterOf(c: Ctx, what: string): number {
  const after = c.req.query("after") ?? "0";
  return /^\d{1,15}$/.test(after) ? Number(after) : refuse("invalid_request", `\`after\` is the number of ${what}.`, "after");
}

/** `Last-Event-ID`, or `?after=` for clients that cannot set headers. */
function lastEventId(c: Ctx): number {
  const text = c.req.header("last-event-id") ?? c.req.query("after") ?? "0";
  return /^\d{1,15}$/.test(text) ? Number(text) : refuse("invalid_request", "Last-Event-ID is the number of an event.", "Last-Event-ID");
}

export function runBody(view: RunView): z.infer<typeof runSchema> {
  const { run, function: name, version, status, created_at_ms, finished_at_ms, output, error } = view;
  return {
    run,
    function: name,
    version,
    status,
    created_at: instant(created_at_ms),
    finished_at: finished_at_ms === null ? null : instant(finished_at_ms),
    ...(status === "done" ? { output } : {}),
    ...(error === undefined ? {} : { error }),
  };
}

export function sseResponse(stream: ReadableStream<Uint8Array>, headers: Readonly<Record<string, string>> = {}): Response {
  return new Response(stream, {
    headers: {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache, no-transform",
      "x-accel-buffering": "no",
      ...headers,
    },
  });
}
