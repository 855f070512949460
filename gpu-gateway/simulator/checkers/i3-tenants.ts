/**
 * I3: no call is answered by, charged to, or sped up by the cache of, another tenant. The engines' memory says whose prompt computed each block
 * that was found in a cache, and whose KV lay in the blocks that a transfer read; the rows say whom they charge.
 */
import type { CallId, LegId, TenantId } from "../../../schema/core/ids.ts";
import type { Micros } from "../../../schema/core/time.ts";
import type { UsageEvent } from "../../../schema/core/wire/usage.ts";
import type { Effect } from "../../policy/effects.ts";
import type { SchedulerEvent } from "../../policy/events.ts";
import type { KvRead } from "../faults/hooks.ts";
import { Books } from "./checker.ts";

export class TenantsChecker extends Books {
  readonly invariant = "I3";
  protected override unchecked_because = "no cache was hit, no KV transferred, no row charged to a tenant";
  /** As their clients said. */
  readonly #tenants = new Map<CallId, TenantId>();
  readonly #legs = new Map<LegId, CallId>();
  #now: Micros = 0 as Micros;

  event(event: SchedulerEvent, effects: readonly Effect[], now: Micros): void {
    this.#now = now;
    if (event.type === "call_arrived") this.#tenants.set(event.call.call_id, event.call.tenant);
    for (const effect of effects) {
      if (effect.type !== "start_leg") continue;
      this.#legs.set(effect.leg_id, effect.call_id);
      if (effect.from_leg === null) continue;
      const from = this.#legs.get(effect.from_leg.leg_id);
      this.check(from === effect.call_id, now, () => `decode leg ${effect.leg_id} takes the KV of ${from ?? "an unknown call"}`);
    }
  }

  kvRead(read: KvRead): void {
    if (read.type === "prefix_hit") {
      const foreign = read.computed_by.find((tenant) => tenant !== read.tenant);
      this.check(
        foreign === undefined,
        this.#now,
        () => `${read.leg_id} of ${read.tenant} hit blocks on ${read.instance_id} that ${foreign} computed`,
      );
    } else {
      const { found } = read;
      this.check(
        found !== null && found.leg_id === read.from && found.tenant === read.tenant,
        this.#now,
        () =>
          `${read.leg_id} of ${read.tenant} pulled from ${read.from}, and read ${found === null ? "freed blocks" : `the KV of ${found.leg_id} of ${found.tenant}`}`,
      );
    }
  }

  shipped(rows: readonly UsageEvent[], now: Micros): void {
    for (const row of rows) {
      const owner = row.call === undefined ? undefined : this.#tenants.get(row.call as CallId);
      if (row.call === undefined && row.tenant === undefined) continue;
      this.check(row.tenant === owner, now, () => `row ${row.id} charges ${row.tenant} for ${row.call}, a call of ${owner}`);
    }
  }
}
