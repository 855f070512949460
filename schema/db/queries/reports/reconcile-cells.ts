/**
 * For each cell, over [from, to) cut at its watermark: GPU time provisioned, from the node agents' records and nothing else; GPU
 * time metered, from usage rows and nothing else; calls that ended, and those of them whose tokens no usage row states. One
 * statement, so that all of it is of one instant. Of all tenants: GPUs are shared.
 */
import type { CellReconciliation } from "../../../core/rating/reconcile.ts";
import { type Nanos, nanos } from "../../../core/time.ts";
import type { Db } from "../../sql.ts";

type Row = {
  cell: string;
  through_ns: string;
  provisioned: string;
  metered: Record<string, string>;
  calls: number;
  calls_without_usage: number;
};

export async function reconcileCells(sql: Db, period: { readonly from: Nanos; readonly to: Nanos }): Promise<CellReconciliation[]> {
  const from = period.from.toString();
  const to = period.to.toString();
  const rows = await sql<Row[]>`
    with cut as (
      select cell, least(through_ns, ${to}::numeric) as through_ns from watermarks
    )
    select cut.cell, cut.through_ns::text as through_ns,
      (
        select coalesce(sum(
          p.gpus * greatest(0, least(coalesce(p.released_at_ns, cut.through_ns), cut.through_ns) - greatest(p.provisioned_at_ns, ${from}::numeric))
        ), 0)::text
        from provisions p where p.cell = cut.cell
      ) as provisioned,
      (
        select coalesce(jsonb_object_agg(centre, gpu_ns::text), '{}') from (
          select case when u.tenant <> '-' or u.call is not null then 'calls' else coalesce(u.cost_centre, 'unnamed') end as centre,
            sum(u.quantity) as gpu_ns
          from usage u
          where u.cell = cut.cell and u.kind = 'gpu_time' and u.from_ns >= ${from}::numeric and u.to_ns <= cut.through_ns
          group by 1
        ) as by_centre
      ) as metered,
      ended.calls, ended.calls_without_usage
    from cut, lateral (
      select count(*)::int as calls,
        count(*) filter (where not exists (
          select from usage u
          where u.tenant = c.tenant and u.call = c.call and u.kind = 'tokens'
            and (u.prompt_tokens, u.cached_tokens, u.completion_tokens) = (c.prompt_tokens, c.cached_tokens, c.completion_tokens)
        ))::int as calls_without_usage
      from calls c
      where c.cell = cut.cell and c.ended_at_ns > ${from}::numeric and c.ended_at_ns <= cut.through_ns
    ) as ended
    order by cut.cell`;
  return rows.map((row) => ({
    cell: row.cell,
    through_ns: nanos(BigInt(row.through_ns)),
    provisioned_gpu_ns: BigInt(row.provisioned),
    metered_gpu_ns: Object.fromEntries(Object.entries(row.metered).map(([centre, gpu_ns]) => [centre, BigInt(gpu_ns)])),
    calls: row.calls,
    calls_without_usage: row.calls_without_usage,
  }));
}
