/**
 * Copies the node agents' provisions, in any order, any number of times: the first statement of a provision stays (a trigger keeps
 * it), its end is filled in once.
 */
import { type Db, arrayOf } from "../../sql.ts";

export type StatedProvision = {
  readonly provision_id: string;
  readonly node_id: string;
  readonly gpus: number;
  readonly provisioned_at: bigint;
  readonly released_at: bigint | null;
  readonly reported_by: string;
};

export async function upsertProvisions(sql: Db, cell: string, provisions: readonly StatedProvision[]): Promise<void> {
  const column = (of: (p: StatedProvision) => string | number | bigint | null) => arrayOf(provisions.map(of));
  await sql`
    with stated as (
      -- One row a provision, for the statement may not write a row twice: the one that knows the end, if any does.
      select distinct on (provision) *
      from unnest(
        ${column((p) => p.provision_id)}::text[], ${column((p) => p.node_id)}::text[], ${column((p) => p.gpus)}::int[],
        ${column((p) => p.provisioned_at)}::numeric[], ${column((p) => p.released_at)}::numeric[],
        ${column((p) => p.reported_by)}::text[]
      ) with ordinality as i (provision, node, gpus, provisioned_at_ns, released_at_ns, reported_by, place)
      order by provision, released_at_ns nulls last, place
    ), seen as (
      insert into nodes (node, cell, gpus, reported_by)
      select distinct on (node) node, ${cell}::text, gpus, reported_by from stated order by node, provisioned_at_ns desc
      on conflict (node) do update
        set cell = excluded.cell, gpus = excluded.gpus, reported_by = excluded.reported_by, seen_at = excluded.seen_at
    )
    insert into provisions as p (cell, provision, node, gpus, provisioned_at_ns, released_at_ns, reported_by)
    select ${cell}::text, provision, node, gpus, provisioned_at_ns, released_at_ns, reported_by from stated order by provision
    on conflict (cell, provision) do update set released_at_ns = excluded.released_at_ns
      where p.released_at_ns is null and excluded.released_at_ns is not null`;
}
