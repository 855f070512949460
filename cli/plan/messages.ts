/** Between the command and the thread that plans. */
import type { Plan } from "../../gpu-gateway/simulator/planner/answer.ts";
import type { Progress } from "../../gpu-gateway/simulator/planner/plan.ts";
import type { PlanRequest } from "./request.ts";

export type WorkerStart = {
  readonly request: PlanRequest;
  /** One 32-bit word: not zero means stop. The thread computes without a pause, so no message would reach it. */
  readonly stop: SharedArrayBuffer;
};

export type WorkerMessage =
  | { readonly type: "read"; readonly calls: number; readonly skipped: number; readonly skipped_first: readonly string[] }
  | { readonly type: "progress"; readonly progress: Progress }
  | { readonly type: "plan"; readonly plan: Plan }
  /** The trace is not as its format says. */
  | { readonly type: "malformed"; readonly message: string };
