/** How a usage event lies in its table: the tenant it is unique under, and the hash that tells a repeat from a conflict. */
import { hashParts } from "../../../core/hash.ts";
import type { UsageEvent } from "../../../core/wire/usage.ts";

/** The tenant of what belongs to none (idle, loading, lost …). No tenant's id can be this: ids begin with a letter or digit. */
export const NO_TENANT = "-";

export const tenantOf = (event: UsageEvent): string => event.tenant ?? NO_TENANT;

/** Over what the event says, not over how it was written: fields by name, absent ones left out. */
export function payloadHash(event: UsageEvent): string {
  const { tokens, ...rest } = event;
  const fields: [string, string][] = Object.entries(rest).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]]));
  if (tokens) fields.push(["tokens", `${tokens.prompt},${tokens.cached},${tokens.completion}`]);
  fields.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return hashParts(...fields.flat());
}

/** The order in which rows are inserted, so that two shippers of the same rows never wait for each other in a circle. */
export function inInsertOrder(events: readonly UsageEvent[]): UsageEvent[] {
  const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);
  return events.toSorted((a, b) => compare(tenantOf(a), tenantOf(b)) || compare(a.source, b.source) || compare(a.id, b.id));
}
