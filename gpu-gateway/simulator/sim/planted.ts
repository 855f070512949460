/** Planted bugs that are no policy's: a scheduler that says an end twice, a fold that drops remainders, shipments that name rows anew. */
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

/** As if a split's remainder were dropped: of one row in sixteen a nanosecond is gone. */
export function plantedRow(plant: Plant | null, row: UsageEvent): UsageEvent {
  if (plant !== "I1" || row.kind !== "gpu_time" || !row.id.endsWith("0")) return row;
  return { ...row, quantity: String(BigInt(row.quantity) - 1n) };
}

/** Ids that name the shipment and not the fact. */
export function plantedShipment(plant: Plant | null, rows: readonly UsageEvent[], shipment: number): readonly UsageEvent[] {
  return plant === "I6" ? rows.map((row) => ({ ...row, id: `${row.id}.${shipment}` })) : rows;
}
