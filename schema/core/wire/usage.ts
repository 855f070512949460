/**
 * The usage event: one fact about what was used, append-only. `id` is derived (see policy/metering for GPU time;
 * `deriveId("usage", source, …)` for the edge), unique per (tenant, source, id) for ever; the same id with another body is a
 * recorded conflict. GPU time comes from the fold alone; tokens from the engine's usage block; the rest from the edge.
 */
import { z } from "zod";
import { ID_PATTERN } from "../ids.ts";

const id = z.string().regex(ID_PATTERN);
const integer = z.string().regex(/^-?\d{1,38}$/);

/** Who a nanosecond belongs to when it belongs to no call. `unassigned`: GPUs in no group; a kind of idle, kept apart. */
export const COST_CENTRES = ["idle", "unassigned", "loading", "waking", "draining", "lost"] as const;
export type CostCentre = (typeof COST_CENTRES)[number];
export const LEG_STATES = ["prefill", "decode", "whole", "holding"] as const;
export type LegState = (typeof LEG_STATES)[number];

export const USAGE_KINDS = [
  "gpu_time", // quantity: GPU-nanoseconds
  "tokens", // quantities in `tokens`
  "edge_request", // quantity: 1
  "edge_wall", // quantity: nanoseconds of wall time
  "session_time", // quantity: nanoseconds a session's socket was open
  "storage", // quantity: byte-seconds
  "tool_call", // quantity: 1
] as const;

export const usageEvent = z.object({
  id,
  source: z.enum(["fold", "gateway", "edge"]),
  kind: z.enum(USAGE_KINDS),
  /** Half-open [from, to), UTC nanoseconds. */
  from_ns: integer,
  to_ns: integer,
  quantity: integer,
  tenant: id.optional(),
  project: id.optional(),
  function: id.optional(),
  version: id.optional(),
  run: id.optional(),
  session: id.optional(),
  program: id.optional(),
  agent: z.string().max(128).optional(),
  model: z.string().max(256).optional(),
  call: id.optional(),
  leg: id.optional(),
  leg_state: z.enum(LEG_STATES).optional(),
  cost_centre: z.enum(COST_CENTRES).optional(),
  cell: id.optional(),
  node: id.optional(),
  group: id.optional(),
  instance: id.optional(),
  tokens: z.object({ prompt: z.int().min(0), cached: z.int().min(0), completion: z.int().min(0) }).optional(),
});
export type UsageEvent = z.infer<typeof usageEvent>;
