/** The usage report: what was used, by up to two keys, and, at its foot, that all of it adds up to what was provisioned (I1). */
import { Hono } from "hono";
import { failure } from "../../schema/core/errors.ts";
import { ID_PATTERN } from "../../schema/core/ids.ts";
import { reportPeriod, USAGE_GROUPS_MAX } from "../../schema/core/rating/report.ts";
import { nanosFromMs } from "../../schema/core/time.ts";
import { USAGE_GROUPS, type UsageGroup } from "../../schema/core/wire/http.ts";
import { readUsageReport } from "../../schema/db/usage-report.ts";
import { withDatabase } from "../database.ts";
import { claimsOf } from "../door.ts";
import { signGatewayToken } from "../gateway-client-token.ts";
import { callerWith, Refusal, refuse, type App, type Ctx } from "../http.ts";

const DAY_MS = 86_400_000;
/** A longer report is several: beyond it `invalid_request`. */
const PERIOD_MS_MAX = 400 * DAY_MS;
const SETTLE_MS_MAX = 30_000;

export const usage = new Hono<App>();

usage.get("/v1/usage", async (c) => {
  const caller = await callerWith(c, "usage");
  const { tenant } = caller;
  const group_by = groupsOf(c.req.query("group_by"));
  const settled = c.req.query("settle") === "true";
  if (settled) await settle(c, await signGatewayToken(c.env.MILLRACE_CELL_SECRET, claimsOf(caller)));
  const now_ms = Date.now();
  const to_ms = instantOf(c, "to", now_ms);
  const from_ms = instantOf(c, "from", to_ms - 30 * DAY_MS);
  if (from_ms >= to_ms || to_ms - from_ms > PERIOD_MS_MAX) refuse("invalid_request", "from: lies before to, at most 400 days", "from");
  const { from, to } = reportPeriod(nanosFromMs(from_ms), nanosFromMs(to_ms));
  const run = idOf(c, "run");
  const session = idOf(c, "session");
  const query = { tenant, from, to, group_by, run, session };
  // What was just settled must be in it: only the past may come from the cache.
  const past = !settled && to_ms < now_ms - DAY_MS;
  const report = await withDatabase(past ? c.env.DB_CACHED : c.env.DB, (sql) => readUsageReport(sql, query));
  return c.json(report, 200, { "cache-control": "no-store" });
});

/** The gateway cuts its metering now and ships it, so that the report has everything up to this moment. */
async function settle(c: Ctx, token: string): Promise<void> {
  let answer: Response;
  try {
    answer = await fetch(new URL("/internal/settle", c.env.GATEWAY_URL), {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "x-request-id": c.get("request_id") },
      signal: AbortSignal.timeout(SETTLE_MS_MAX),
    });
    await answer.body?.cancel();
  } catch {
    throw new Refusal(failure("gateway_unavailable", "The gateway could not be asked to settle; leave out `settle` for what is settled."));
  }
  if (!answer.ok) throw new Refusal(failure("gateway_unavailable", `The gateway did not settle (${answer.status}).`));
}

function groupsOf(text: string | undefined): UsageGroup[] {
  const names = text === undefined || text === "" ? [] : text.split(",").map((name) => name.trim());
  const unknown = names.find((name) => !(USAGE_GROUPS as readonly string[]).includes(name));
  if (unknown !== undefined) refuse("invalid_request", `group_by: ${unknown} is none of ${USAGE_GROUPS.join(", ")}`, "group_by");
  const groups = [...new Set(names)] as UsageGroup[];
  if (groups.length > USAGE_GROUPS_MAX) refuse("invalid_request", `group_by: at most ${USAGE_GROUPS_MAX}`, "group_by");
  return groups;
}

function idOf(c: Ctx, name: "run" | "session"): string | undefined {
  const text = c.req.query(name);
  if (text === undefined) return undefined;
  return ID_PATTERN.test(text) ? text : refuse("invalid_request", `${name}: the id of a ${name}`, name);
}

/** RFC 3339, or a day. */
function instantOf(c: Ctx, name: "from" | "to", otherwise_ms: number): number {
  const text = c.req.query(name);
  if (text === undefined || text === "") return otherwise_ms;
  const ms = /^\d{4}-\d\d-\d\d(T[\d:.]+(Z|[+-]\d\d:\d\d))?$/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(ms) || ms < 0 ? refuse("invalid_request", `${name}: an instant as RFC 3339 has it, since 1970`, name) : ms;
}
