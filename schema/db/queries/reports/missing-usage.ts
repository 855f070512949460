/**
 * Holds a tenant's usage rows of [from, to), whole minutes, against the tallies written with them: how many rows were written, and of
 * each kind what is no longer there. Rows that belong to no tenant (idle, loading …) are looked at for everyone. One statement, so
 * that both sides are of one instant.
 */
import type { UsageRowCheck } from "../../../core/rating/reconcile.ts";
import type { Nanos } from "../../../core/time.ts";
import { type Db, only } from "../../sql.ts";
import { NO_TENANT } from "../usage/usage-row.ts";

type Query = { readonly tenant: string; readonly from: Nanos; readonly to: Nanos };

export async function missingUsage(sql: Db, q: Query): Promise<UsageRowCheck> {
  const tenants = sql`(${q.tenant}::text, ${NO_TENANT}::text)`;
  const [from, to] = [q.from.toString(), q.to.toString()];
  const row = only(
    await sql<{ written: string; missing: UsageRowCheck["missing"] }[]>`
      with stored as (
        select kind, count(*) as rows, sum(quantity) as quantity from usage
        where tenant in ${tenants} and from_ns >= ${from}::numeric and from_ns < ${to}::numeric
        group by kind
      ), written as (
        select kind, sum(rows) as rows, sum(quantity) as quantity from usage_tallies
        where tenant in ${tenants} and minute_ns >= ${from}::numeric and minute_ns < ${to}::numeric
        group by kind
      ), compared as (
        select kind, coalesce(w.rows, 0) as written, coalesce(w.rows, 0) - coalesce(s.rows, 0) as rows,
          coalesce(w.quantity, 0) - coalesce(s.quantity, 0) as quantity
        from written w full join stored s using (kind)
      )
      select coalesce(sum(written), 0)::text as written,
        coalesce(
          jsonb_object_agg(kind, jsonb_build_object('rows', rows::text, 'quantity', quantity::text)) filter (where rows <> 0 or quantity <> 0),
          '{}'
        ) as missing
      from compared`,
  );
  return { written: BigInt(row.written), missing: row.missing };
}
