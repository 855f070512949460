/** What the ledger in Postgres holds of a cell, for whoever takes it over: read once the lease is ours. Null: nothing was ever metered. */
import type postgres from "postgres";
import type { CellId, NodeId } from "../schema/core/ids.ts";
import { NANOS_PER_MINUTE } from "../schema/core/time.ts";
import { RELEASES_REMEMBERED_MAX } from "./policy/metering/nodes.ts";
import type { Standing } from "./policy/metering/takeover.ts";

type Row = {
  watermark: string;
  provisions: { provision_id: string; node: NodeId; gpus: number; provisioned_at: string; released_at: string | null }[];
  released: string[];
  metered_past: { provision_id: string; minute: string; charged_to: string; quantity: string }[];
};

export async function readStanding(sql: postgres.Sql, cell: CellId): Promise<Standing | null> {
  const [row] = await sql<Row[]>`
    with standing as (
      select through_ns from watermarks where cell = ${cell}::text
    ), past as (
      select p.provision, div(u.from_ns, ${NANOS_PER_MINUTE.toString()}::numeric) * ${NANOS_PER_MINUTE.toString()}::numeric as minute,
        sum(u.quantity) as quantity, max(u.to_ns) as charged_to
      from standing s
      join usage u on u.cell = ${cell}::text and u.kind = 'gpu_time' and u.from_ns >= s.through_ns
      join lateral (
        select provision from provisions p
        where p.cell = ${cell}::text and p.node = u.node and p.provisioned_at_ns <= u.from_ns
        order by p.provisioned_at_ns desc limit 1
      ) p on true
      group by 1, 2 having sum(u.quantity) <> 0
    )
    select s.through_ns::text as watermark,
      (
        select coalesce(jsonb_agg(jsonb_build_object(
          'provision_id', p.provision, 'node', p.node, 'gpus', p.gpus,
          'provisioned_at', p.provisioned_at_ns::text, 'released_at', p.released_at_ns::text
        ) order by p.provisioned_at_ns, p.provision), '[]')
        from provisions p
        where p.cell = ${cell}::text
          and (p.released_at_ns is null or p.released_at_ns > s.through_ns or exists (select from past where past.provision = p.provision))
      ) as provisions,
      (
        select coalesce(jsonb_agg(r.provision order by r.released_at_ns, r.provision), '[]') from (
          select p.provision, p.released_at_ns from provisions p
          where p.cell = ${cell}::text and p.released_at_ns <= s.through_ns and not exists (select from past where past.provision = p.provision)
          order by p.released_at_ns desc, p.provision desc limit ${RELEASES_REMEMBERED_MAX}::int
        ) r
      ) as released,
      (
        select coalesce(jsonb_agg(jsonb_build_object('provision_id', provision, 'minute', minute::text, 'charged_to', charged_to::text, 'quantity', quantity::text)
          order by minute, provision), '[]')
        from past
      ) as metered_past
    from standing s`;
  if (row === undefined) return null;
  return {
    watermark: BigInt(row.watermark),
    provisions: row.provisions.map((provision) => ({
      ...provision,
      provisioned_at: BigInt(provision.provisioned_at),
      released_at: provision.released_at === null ? null : BigInt(provision.released_at),
    })),
    released: row.released,
    metered_past: row.metered_past.map(({ provision_id, minute, charged_to, quantity }) => ({
      provision_id,
      minute: BigInt(minute.split(".")[0] ?? ""),
      charged_to: BigInt(charged_to),
      quantity: BigInt(quantity),
    })),
  };
}
