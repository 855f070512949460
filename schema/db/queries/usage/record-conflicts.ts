/** Of these events, keeps those whose id is stored with another body, and counts them. The stored row stays as it is. */
import type { UsageEvent } from "../../../core/wire/usage.ts";
import { type Db, arrayOf, only, withoutNul } from "../../sql.ts";
import { payloadHash, tenantOf } from "./usage-row.ts";

export async function recordConflicts(sql: Db, events: readonly UsageEvent[]): Promise<{ conflicts: number }> {
  return only(
    await sql<{ conflicts: number }[]>`
      with conflicting as (
        select i.*, u.payload_hash as stored_hash
        from unnest(
          ${arrayOf(events.map(tenantOf))}::text[], ${arrayOf(events.map((e) => e.source))}::text[],
          ${arrayOf(events.map((e) => e.id))}::text[], ${arrayOf(events.map(payloadHash))}::text[],
          ${arrayOf(events.map((e) => toJson(e)))}::text[]
        ) as i (tenant, source, id, payload_hash, payload)
        join usage u using (tenant, source, id)
        where u.payload_hash <> i.payload_hash
      ), kept as (
        insert into usage_conflicts (tenant, source, id, payload_hash, stored_hash, payload)
        select distinct on (tenant, source, id, payload_hash) tenant, source, id, payload_hash, stored_hash, payload::jsonb
        from conflicting
        order by tenant, source, id, payload_hash
        on conflict do nothing
      )
      select count(*)::int as conflicts from conflicting`,
  );
}

const toJson = (event: UsageEvent): string =>
  JSON.stringify(event, (_key, value: unknown) => (typeof value === "string" ? withoutNul(value) : value));
