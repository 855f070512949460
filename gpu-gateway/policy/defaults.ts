/** The baseline: the default of each of the six questions. What a gateway runs unless told otherwise. */
import { type CatalogueOptions, choosePolicies } from "./catalogue.ts";
import type { SchedulerConfig } from "./scheduler.ts";

export type BaselineOptions = Pick<CatalogueOptions, "scope" | "targets" | "queued_per_model_max" | "limits">;

export function baselinePolicies(options: BaselineOptions): SchedulerConfig {
  const choice = choosePolicies({}, options);
  if (choice.type === "faults") throw new Error(`the defaults contradict each other: ${choice.faults.join("; ")}`);
  return choice.config;
}
