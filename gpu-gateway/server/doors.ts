/** What every door of the gateway needs of the rest: made once in main.ts. */
import type { CellId } from "../../schema/core/ids.ts";
import type { SchedulerSnapshot } from "../policy/scheduler.ts";
import type { RecorderState } from "../runtime/decisions.ts";
import type { Meter } from "../runtime/meter.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Authenticator } from "./auth.ts";
import type { Metrics } from "./metrics.ts";

export type Doors = {
  readonly cell: CellId;
  readonly epoch: number;
  readonly started_s: number;
  readonly deadline_ms_default: number;
  readonly runtime: Runtime;
  readonly meter: Pick<Meter, "settle" | "state">;
  readonly auth: Authenticator;
  readonly metrics: Metrics;
  readonly snapshot: () => SchedulerSnapshot;
  /** Null: none are recorded. */
  readonly decisions: () => RecorderState | null;
};
