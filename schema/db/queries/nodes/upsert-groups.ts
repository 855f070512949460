/** Writes instance groups with their instances; a group that is known gets its end, once. */
import type { Db } from "../../sql.ts";

export type GroupRecord = {
  readonly group: string;
  readonly cell: string;
  readonly node: string;
  readonly model: string;
  readonly role: string;
  readonly engine: string;
  readonly gpus: number;
  readonly started_at_ns: bigint;
  readonly ended_at_ns: bigint | null;
  readonly end_reason: string | null;
  readonly instances: readonly { readonly instance: string; readonly gpu_indices: readonly number[] }[];
};

export async function upsertGroups(sql: Db, groups: readonly GroupRecord[]): Promise<void> {
  const json = JSON.stringify(groups, (_key, value: unknown) => (typeof value === "bigint" ? value.toString() : value));
  await sql`
    with stated as (
      select * from jsonb_to_recordset(${json}::text::jsonb) as i (
        "group" text, cell text, node text, model text, role text, engine text, gpus int,
        started_at_ns numeric, ended_at_ns numeric, end_reason text, instances jsonb
      )
    ), groups as (
      insert into instance_groups as g ("group", cell, node, model, role, engine, gpus, started_at_ns, ended_at_ns, end_reason)
      select "group", cell, node, model, role, engine, gpus, started_at_ns, ended_at_ns, end_reason from stated order by "group"
      on conflict ("group") do update set ended_at_ns = excluded.ended_at_ns, end_reason = excluded.end_reason
        where g.ended_at_ns is null and excluded.ended_at_ns is not null
    )
    insert into instances (instance, "group", gpu_indices)
    select i.instance, s."group", (select coalesce(array_agg(x::int), '{}') from jsonb_array_elements_text(i.gpu_indices) as x)
    from stated s, jsonb_to_recordset(s.instances) as i (instance text, gpu_indices jsonb)
    order by i.instance
    on conflict (instance) do nothing`;
}
