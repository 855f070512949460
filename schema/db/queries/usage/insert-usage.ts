/**
 * Appends usage rows; one whose (tenant, source, id) is there already is left alone. Answers how many were new. Whether the others
 * were repeats or conflicts, record-conflicts.ts finds out: in a statement of its own, because this one cannot see rows that
 * another transaction committed while it waited for them.
 */
import type { UsageEvent } from "../../../core/wire/usage.ts";
import { type Db, arrayOf, only } from "../../sql.ts";
import { payloadHash, tenantOf } from "./usage-row.ts";

export const USAGE_ROWS_PER_STATEMENT_MAX = 2_000;

export async function insertUsage(sql: Db, events: readonly UsageEvent[]): Promise<{ inserted: number }> {
  const column = (of: (event: UsageEvent) => string | number | undefined) => arrayOf(events.map(of));
  return only(
    await sql<{ inserted: number }[]>`
      with incoming as (
        select distinct on (tenant, source, id) *
        from unnest(
          ${column(tenantOf)}::text[], ${column((e) => e.source)}::text[], ${column((e) => e.id)}::text[],
          ${column(payloadHash)}::text[], ${column((e) => e.kind)}::text[],
          ${column((e) => e.from_ns)}::numeric[], ${column((e) => e.to_ns)}::numeric[], ${column((e) => e.quantity)}::numeric[],
          ${column((e) => e.project)}::text[], ${column((e) => e.function)}::text[], ${column((e) => e.version)}::text[],
          ${column((e) => e.run)}::text[], ${column((e) => e.session)}::text[], ${column((e) => e.program)}::text[],
          ${column((e) => e.agent)}::text[], ${column((e) => e.model)}::text[], ${column((e) => e.call)}::text[],
          ${column((e) => e.leg)}::text[], ${column((e) => e.leg_state)}::text[], ${column((e) => e.cost_centre)}::text[],
          ${column((e) => e.cell)}::text[], ${column((e) => e.node)}::text[], ${column((e) => e.group)}::text[],
          ${column((e) => e.instance)}::text[], ${column((e) => e.tokens?.prompt)}::bigint[],
          ${column((e) => e.tokens?.cached)}::bigint[], ${column((e) => e.tokens?.completion)}::bigint[]
        ) with ordinality as t (
          tenant, source, id, payload_hash, kind, from_ns, to_ns, quantity, project, function, version, run, session, program,
          agent, model, call, leg, leg_state, cost_centre, cell, node, "group", instance,
          prompt_tokens, cached_tokens, completion_tokens, place
        )
        order by tenant, source, id, place
      ), inserted as (
        insert into usage (
          tenant, source, id, payload_hash, kind, from_ns, to_ns, quantity, project, function, version, run, session, program,
          agent, model, call, leg, leg_state, cost_centre, cell, node, "group", instance,
          prompt_tokens, cached_tokens, completion_tokens
        )
        select
          tenant, source, id, payload_hash, kind, from_ns, to_ns, quantity, project, function, version, run, session, program,
          agent, model, call, leg, leg_state, cost_centre, cell, node, "group", instance,
          prompt_tokens, cached_tokens, completion_tokens
        from incoming
        order by tenant, source, id
        on conflict (tenant, source, id) do nothing
        returning 1
      )
      select count(*)::int as inserted from inserted`,
  );
}
