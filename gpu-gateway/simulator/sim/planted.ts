/** Planted bugs that are no policy's: a scheduler that says an end twice, books that lose or rename rows. */
import type { UsageEvent } from "../../../schema/core/wire/usage.ts";
import { createScheduler, type Scheduler, type SchedulerConfig } from "../../policy/scheduler.ts";
import type { Plant } from "./plants.ts";

export function plantedScheduler(plant: Plant | null, config: SchedulerConfig): Scheduler {
  const scheduler = createScheduler(config);
  if (plant !== "I2") return scheduler;
  return {
    handle: (event, now) =>
      scheduler
        .handle(event, now)
        .flatMap((effect) => (effect.type === "end_call" && effect.outcome.type === "cancelled" ? [effect, effect] : [effect])),
    snapshot: () => scheduler.snapshot(),
  };
}

export function plantedRows(plant: Plant | null, rows: readonly UsageEvent[], shipment: number): readonly UsageEvent[] {
  // One in each seventh shipment: what a lost page, or a batch cut at the wrong place, would lose.
  if (plant === "I1") return shipment % 7 === 0 ? rows.slice(1) : rows;
  // An id that names the shipment and not the fact.
  if (plant === "I6") return rows.map((row) => ({ ...row, id: `${row.id}.${shipment}` }));
  return rows;
}
