/** Between the command and the threads that run its seeds. */
import type { Plant } from "./plants.ts";
import type { RunReport } from "./run.ts";
import type { Scenario } from "./scenario.ts";

export type Job =
  | { readonly type: "seed"; readonly seed: number; readonly plant: Plant | null; readonly digest: boolean; readonly twice: boolean }
  | {
      readonly type: "scenario";
      readonly scenario: Scenario;
      readonly plant: Plant | null;
      readonly digest: boolean;
      readonly twice: boolean;
    };

export type Done = {
  readonly report: RunReport;
  /** SHA-256 over every event with its effects, and over the report. */
  readonly digest: string | null;
  readonly wall_ms: number;
};
