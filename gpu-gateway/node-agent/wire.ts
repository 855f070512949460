/**
 * What a gateway says to a node agent, and what it answers: JSON over HTTP, a bearer token on each request, RFC 9457 problems.
 * Instants are decimal strings: JSON numbers are too short for nanoseconds.
 *
 * POST /v1/claim          {cell, epoch, lease_ms}                    → claimed      takes or renews the node
 * POST /v1/groups/launch  {cell, epoch, group_id, model, role, …}    → group        the same group again is the same launch
 * POST /v1/groups/stop    {cell, epoch, group_id}                    → {stopping}   idempotent
 * POST /v1/release        {cell, epoch}                              → {provisions} stops all, closes the provision; the agent exits
 * GET  /v1/node                                                      → snapshot
 * GET  /v1/events?stream=S&after=N&wait_ms=W                         → events, or `behind`: take a snapshot and go on from there
 */
import { z } from "zod";
import type { ErrorCode } from "../../schema/core/errors.ts";
import { toProblem } from "../../schema/core/errors.ts";
import { asId } from "../../schema/core/ids.ts";
import { nanos } from "../../schema/core/time.ts";
import type { RunningGroup } from "../ports/provider.ts";
import { GPUS_MAX, LEASE_MS_MAX, LEASE_MS_MIN } from "./limits.ts";

/** Narrower than ids elsewhere: no slash, since a group's id names its log file. */
const GROUP_ID_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/;
const groupId = z
  .string()
  .regex(GROUP_ID_PATTERN)
  .transform((value) => asId<"group">(value));
const nodeId = z.string().transform((value) => asId<"node">(value));
const instant = z
  .string()
  .regex(/^\d{1,20}$/)
  .transform((digits) => nanos(BigInt(digits)));

const commander = { cell: z.string().min(1).max(128), epoch: z.int().nonnegative() };
export const leaseMs = z.int().min(LEASE_MS_MIN).max(LEASE_MS_MAX);
export const claimCommand = z.object({ ...commander, lease_ms: leaseMs });
export const launchCommand = z.object({
  ...commander,
  group_id: groupId,
  // Given to the engine as an argument: nothing that could be read as an option or a path out of a folder.
  model: z
    .string()
    .max(256)
    .regex(/^(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/:@-]*$/),
  role: z.enum(["prefill", "decode", "both"]),
  engine: z.string().min(1).max(64),
  gpus: z.int().min(1).max(GPUS_MAX),
});
export const stopCommand = z.object({ ...commander, group_id: groupId });
export const releaseCommand = z.object(commander);
export type Commander = { readonly cell: string; readonly epoch: number };
export type ClaimCommand = z.infer<typeof claimCommand>;
export type LaunchCommand = z.infer<typeof launchCommand>;
export type StopCommand = z.infer<typeof stopCommand>;

const provision = z.object({
  provision_id: z.string(),
  node_id: nodeId,
  gpus: z.int(),
  provisioned_at: instant,
  released_at: instant.nullable(),
  reported_by: z.string(),
});
export const group = z.object({
  group_id: groupId,
  node_id: nodeId,
  model: z.string(),
  role: z.enum(["prefill", "decode", "both"]),
  engine: z.string(),
  gpu_indices: z.array(z.int()).readonly(),
  instances: z
    .array(
      z.object({
        instance_id: z.string().transform((value) => asId<"instance">(value)),
        url: z.string(),
        gpu_indices: z.array(z.int()).readonly(),
      }),
    )
    .readonly(),
  state: z.enum(["loading", "ready", "failed"]),
  epoch: z.int(),
  ends_at: instant.nullable(),
});

/** Each launched group ends in exactly one `group_stopped` or `group_lost`. */
export const nodeEvent = z.discriminatedUnion("type", [
  z.object({ type: z.literal("group"), group }),
  z.object({ type: z.literal("group_lost"), group_id: groupId, reason: z.string() }),
  z.object({ type: z.literal("group_stopped"), group_id: groupId }),
]);
export type NodeEvent =
  | { readonly type: "group"; readonly group: RunningGroup }
  | { readonly type: "group_lost"; readonly group_id: RunningGroup["group_id"]; readonly reason: string }
  | { readonly type: "group_stopped"; readonly group_id: RunningGroup["group_id"] };

/** The groups as they are after the first `seq` events of `stream`; a restarted agent has another stream. */
export const snapshot = z.object({
  node_id: nodeId,
  gpus: z.int(),
  stream: z.string(),
  seq: z.int(),
  holder: z.object({ cell: z.string(), epoch: z.int() }).nullable(),
  provisions: z.array(provision).readonly(),
  groups: z.array(group).readonly(),
});
export const claimed = snapshot.extend({ now: instant });
export const launched = z.object({ group });
export const stopped = z.object({ stopping: z.boolean() });
export const released = z.object({ provisions: z.array(provision).readonly() });
export const events = z.discriminatedUnion("type", [
  z.object({ type: z.literal("events"), seq: z.int(), events: z.array(nodeEvent).readonly() }),
  z.object({ type: z.literal("behind") }),
]);
export type Snapshot = z.infer<typeof snapshot>;
export type Claimed = z.infer<typeof claimed>;

/** Errors of this protocol alone; the rest are the product's own. No client of the product ever meets these. */
export const AGENT_ERRORS = {
  stale_epoch: { status: 409, retryable: false, title: "The command is of an older epoch" },
  node_claimed: { status: 409, retryable: true, title: "Another cell holds the node" },
  not_claimed: { status: 409, retryable: false, title: "The cell does not hold the node" },
  node_leaving: { status: 409, retryable: true, title: "The agent is giving its GPUs back" },
  no_free_gpu: { status: 409, retryable: true, title: "Not enough GPUs are free" },
  group_exists: { status: 409, retryable: false, title: "Another launch has this group id" },
  unknown_engine: { status: 422, retryable: false, title: "The engine catalogue has no such engine" },
} as const;
type AgentErrorCode = keyof typeof AGENT_ERRORS;

export type AgentFailure = {
  readonly code: AgentErrorCode | ErrorCode;
  readonly detail: string;
  readonly param?: string;
  /** With stale_epoch: the epoch that commands now. */
  readonly current_epoch?: number;
};
export type Outcome<T> = { readonly type: "ok"; readonly value: T } | { readonly type: "refused"; readonly failure: AgentFailure };
export const ok = <T>(value: T): Outcome<T> => ({ type: "ok", value });
export const refused = (failure: AgentFailure): { readonly type: "refused"; readonly failure: AgentFailure } => ({
  type: "refused",
  failure,
});

const isAgentError = (code: string): code is AgentErrorCode => Object.hasOwn(AGENT_ERRORS, code);

export function toAgentProblem(failure: AgentFailure) {
  if (!isAgentError(failure.code)) return toProblem({ ...failure, code: failure.code });
  const { current_epoch, ...rest } = failure;
  return {
    type: `https://millrace.dev/errors/node-agent#${failure.code}`,
    ...AGENT_ERRORS[failure.code],
    ...rest,
    ...(current_epoch === undefined ? {} : { current_epoch }),
  };
}
export const problem = z.object({ status: z.int(), code: z.string(), detail: z.string(), current_epoch: z.int().optional() });

const BIGINTS_AS_STRINGS = (_: string, value: unknown): unknown => (typeof value === "bigint" ? value.toString() : value);
export const toWire = (value: unknown): string => JSON.stringify(value, BIGINTS_AS_STRINGS);

/** `<state>/agent.json`, 0600: where the agent is and what opens it. */
export const agentFile = z.object({ pid: z.int().positive(), start: z.string(), node_id: nodeId, url: z.string(), token: z.string() });
export type AgentFile = z.infer<typeof agentFile>;
export const AGENT_FILE_NAME = "agent.json";
