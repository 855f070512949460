/** What a tenant used at the edge over [from, to). */
import type { EdgeUsage } from "../../../core/rating/report.ts";
import { type Db, only } from "../../sql.ts";
import type { UsageQuery } from "./sum-usage.ts";

type Filter = Pick<UsageQuery, "tenant" | "from" | "to" | "run" | "session" | "function">;

export async function sumEdgeUsage(sql: Db, q: Filter): Promise<EdgeUsage> {
  const row = only(
    await sql<{ requests: string; wall_ns: string; session_ns: string; tool_calls: string }[]>`
      select
        coalesce(sum(quantity) filter (where kind = 'edge_request'), 0)::text as requests,
        coalesce(sum(quantity) filter (where kind = 'edge_wall'), 0)::text as wall_ns,
        coalesce(sum(quantity) filter (where kind = 'session_time'), 0)::text as session_ns,
        coalesce(sum(quantity) filter (where kind = 'tool_call'), 0)::text as tool_calls
      from usage
      where tenant = ${q.tenant}::text and source = 'edge'
        and from_ns >= ${q.from.toString()}::numeric and from_ns < ${q.to.toString()}::numeric
        and (${q.run ?? null}::text is null or run = ${q.run ?? null}::text)
        and (${q.session ?? null}::text is null or session = ${q.session ?? null}::text)
        and (${q.function ?? null}::text is null or function = ${q.function ?? null}::text)`,
  );
  return {
    requests: BigInt(row.requests),
    wall_ns: BigInt(row.wall_ns),
    session_ns: BigInt(row.session_ns),
    tool_calls: BigInt(row.tool_calls),
  };
}
