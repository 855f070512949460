/** Bodies of the edge's own HTTP API. `/openapi.json` is generated from these. */
import { z } from "zod";
import { ID_PATTERN } from "../ids.ts";
import { CODE_BYTES_MAX } from "./limits.ts";
import { wireFailure } from "./link.ts";
import { sessionEvent } from "./session.ts";
import { SCOPES } from "./token.ts";

const id = z.string().regex(ID_PATTERN);
export const functionName = z
  .string()
  .regex(/^[a-z][a-z0-9-]{0,62}$/, "lower-case letters, digits and dashes, beginning with a letter, at most 63");
const instant = z.string().describe("RFC 3339, UTC");
const decimal = z.string().describe("a plain decimal");

export const deployRequest = z.object({
  name: functionName,
  code: z.string().min(1).max(CODE_BYTES_MAX).describe("one ES module whose default export is an agent"),
  config: z
    .strictObject({
      timeout_ms: z.int().min(10).max(900_000).default(60_000),
      egress: z.array(z.string().max(253)).max(64).default([]).describe("host names the function may fetch; none by default"),
      isolation: z.enum(["version", "run"]).default("version").describe("`run`: a fresh isolate each run"),
    })
    .default({ timeout_ms: 60_000, egress: [], isolation: "version" }),
  alias: z
    .string()
    .regex(/^[a-z][a-z0-9-]{0,31}$/)
    .default("live"),
});
export const functionVersion = z.object({
  function: id,
  name: functionName,
  version: id,
  code_hash: z.string(),
  config_hash: z.string(),
  alias: z.string(),
  created_at: instant,
});
export const functionList = z.object({
  functions: z.array(z.object({ function: id, name: functionName, aliases: z.record(z.string(), id) })),
});

export const invocationRequest = z.object({
  input: z.unknown(),
  version: z.string().max(128).optional().describe("a version id or an alias; `live` by default"),
});
export const RUN_STATUSES = ["queued", "running", "done", "failed", "cancelled"] as const;
export const run = z.object({
  run: id,
  function: functionName,
  version: id,
  status: z.enum(RUN_STATUSES),
  created_at: instant,
  finished_at: instant.nullable(),
  output: z.unknown().optional(),
  error: wireFailure.optional(),
});
/** SSE events of a run: `event:` is the type, `id:` the sequence number. */
export const runEvent = z.discriminatedUnion("type", [
  z.object({ type: z.literal("run.started"), seq: z.int(), run: id }),
  z.object({
    type: z.literal("step"),
    seq: z.int(),
    path: z.string(),
    agent: z.string().optional(),
    status: z.enum(["started", "done", "failed"]),
    error: wireFailure.optional(),
  }),
  z.object({ type: z.literal("delta"), seq: z.int(), step: z.string(), agent: z.string().optional(), text: z.string() }),
  z.object({ type: z.literal("event"), seq: z.int(), name: z.string(), data: z.unknown() }),
  z.object({ type: z.literal("usage"), seq: z.int(), call: id, agent: z.string().optional(), usage: z.unknown() }),
  z.object({ type: z.literal("run.done"), seq: z.int(), output: z.unknown() }),
  z.object({ type: z.literal("run.failed"), seq: z.int(), error: wireFailure }),
]);
export type RunEvent = z.infer<typeof runEvent>;
export const logLine = z.object({
  run: id,
  seq: z.int(),
  at: instant,
  level: z.enum(["debug", "info", "warn", "error"]),
  text: z.string(),
});
/** A page of what a run logged: `seq` is the last line's number, `dropped` how many lines came after it and were not kept. */
export const logList = z.object({ lines: z.array(logLine), seq: z.int(), dropped: z.int() });
/** A page of what a session's turns logged: `seq` is the last line's number, `dropped` how many lines went at the beginning. */
export const sessionLogLine = logLine.omit({ run: true }).extend({ session: id, turn: z.string() });
export const sessionLogList = z.object({ lines: z.array(sessionLogLine), seq: z.int(), dropped: z.int() });

export const sessionCreate = z.object({ function: functionName, version: z.string().max(128).optional() });
export const session = z.object({ session: id, function: functionName, version: id, connect_url: z.string(), created_at: instant });
/** `events` are session events (session.ts); an empty page says that `after` is at the end, or beyond it. */
export const sessionPage = z.object({ events: z.array(sessionEvent), seq: z.int().min(0), truncated_before: z.int().optional() });
export const ticket = z.object({ ticket: z.string(), expires_at: instant });

export const keyCreate = z.object({
  name: z.string().min(1).max(128),
  scopes: z.array(z.enum(SCOPES)).min(1),
  expires_at: instant.optional(),
});
export const keyCreated = z.object({
  key: id,
  name: z.string(),
  scopes: z.array(z.enum(SCOPES)),
  secret: z.string().describe("shown once"),
  created_at: instant,
  expires_at: instant.nullable(),
});
export const keyList = z.object({
  keys: z.array(
    z.object({
      key: id,
      name: z.string(),
      scopes: z.array(z.enum(SCOPES)),
      created_at: instant,
      expires_at: instant.nullable(),
      revoked_at: instant.nullable(),
    }),
  ),
});

export const USAGE_GROUPS = ["function", "session", "agent", "model", "day", "run"] as const;
export type UsageGroup = (typeof USAGE_GROUPS)[number];
export const usageRow = z.object({
  key: z.record(z.string(), z.string().nullable()),
  calls: z.int(),
  prompt_tokens: z.string(),
  cached_tokens: z.string(),
  completion_tokens: z.string(),
  prefill_gpu_ns: z.string(),
  decode_gpu_ns: z.string(),
  holding_gpu_ns: z.string(),
  cost: decimal,
  charge: decimal,
});
/**
 * The foot of every report. Over the whole cell, for the reported period cut at the watermark: what the node agents say was
 * provisioned, against the sum of all usage rows. A tenant sees its own rows and these totals only.
 */
export const reconciliation = z.object({
  from: instant,
  through: instant.describe("the watermark: everything before it is metered"),
  provisioned_gpu_ns: z.string(),
  metered_gpu_ns: z.string(),
  difference_gpu_ns: z.string(),
  by_cost_centre: z.record(z.string(), z.string()).describe("calls, idle, unassigned, loading, waking, draining, lost"),
  calls: z.int().optional().describe("calls that ended in the period"),
  calls_without_usage: z.int().optional().describe("those of them whose tokens no usage row states; 0 unless a row is missing"),
  usage_rows: z.string().optional().describe("usage rows of this tenant, and of none, that were ever written for the period"),
  usage_rows_missing: z
    .record(z.string(), z.object({ rows: z.string(), quantity: z.string() }))
    .optional()
    .describe("by kind, what was written and is no longer there; empty unless something was deleted or altered"),
});
export const usageReport = z.object({
  from: instant,
  to: instant,
  group_by: z.array(z.enum(USAGE_GROUPS)),
  currency: z.string(),
  rows: z.array(usageRow),
  total: usageRow,
  edge: z.object({ requests: z.string(), wall_ns: z.string(), session_ns: z.string(), tool_calls: z.string() }),
  reconciliation,
  unpriced: z
    .object({ gpu_ns: z.string(), tokens: z.string() })
    .optional()
    .describe("usage that no price was in force for, and that cost and charge therefore leave out"),
});
export type UsageReport = z.infer<typeof usageReport>;

export const problem = z.object({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  code: z.string(),
  detail: z.string(),
  what_to_do: z.string(),
  retryable: z.boolean(),
  param: z.string().optional(),
  request_id: z.string().optional(),
});
