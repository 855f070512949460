/**
 * A scenario: everything that a run depends on, as plain data. A seed makes one (generate.ts), a file holds one (`--replay`), and
 * shrinking takes parts out of one; the run itself draws nothing that is not in here.
 */
import type { Micros } from "../../../schema/core/time.ts";
import type { SchedulerLimits } from "../../policy/scheduler.ts";
import type { Fault } from "../faults/fault.ts";
import type { ClusterSpec } from "../types.ts";
import type { PolicyChoice } from "./policies.ts";

export const SCENARIO_FORMAT = 1;

/** One call of a session. Times are relative. */
export type CallPlan = {
  /** A new turn begins with it. */
  readonly turn: boolean;
  /** Thought or a tool, before it. */
  readonly pause: Micros;
  /** Of the tenant's common instructions, then of what the session said before, then new. */
  readonly instructions: number;
  readonly instruction_tokens: number;
  readonly prompt_tokens: number;
  readonly output_tokens: number;
  readonly max_tokens: number;
  readonly splittable: boolean;
  readonly deadline: Micros;
  readonly cancel_after: Micros | null;
  /** Its client sends it twice. */
  readonly resend_after: Micros | null;
};
export type SessionPlan = {
  readonly name: string;
  readonly tenant: string;
  readonly starts: Micros;
  readonly reconnect: Micros;
  readonly client_delay: Micros;
  readonly calls: readonly CallPlan[];
};

/** How many instances the gateway of this epoch wants of each pool of the cluster. */
export const targetsOf = ({ cluster, shrinks }: Pick<Scenario, "cluster" | "shrinks">, epoch: number): readonly number[] =>
  cluster.pools.map(({ instances }) => (shrinks && epoch > 1 && instances > 1 ? instances - 1 : instances));

export type Scenario = {
  readonly format: typeof SCENARIO_FORMAT;
  readonly seed: number;
  readonly cluster: ClusterSpec;
  readonly policies: PolicyChoice;
  readonly limits: Partial<SchedulerLimits>;
  readonly queued_per_model_max: number;
  /** From the second start of the gateway on, a pool of several instances has a target of one fewer: the surplus is drained. */
  readonly shrinks: boolean;
  /** By tenant: what it may spend in all, in calls of the largest size (see money.ts). */
  readonly budgets: Readonly<Record<string, number>>;
  readonly sessions: readonly SessionPlan[];
  readonly faults: readonly Fault[];
  /** Frames and records reach the disk so much later. */
  readonly store_delay: Micros;
  readonly journal_delay: Micros;
  /** Rows in one shipment to the ledger, at most. */
  readonly shipment_rows_max: number;
  /** Then all faults are over and nobody begins a call: everything must come to its end. */
  readonly heals_at: Micros;
  /** … within so long. */
  readonly liveness: Micros;
};
