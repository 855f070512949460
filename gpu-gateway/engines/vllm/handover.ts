/**
 * Validates what prefill returned before anything is passed on. On vLLM 0.32 each of these kills or wedges the decode process,
 * all its streams with it: block ids missing, empty or flat; a bare `do_remote_prefill`; host, port or engine id missing. And a
 * decode leg after the lease is answered fluently from other prompts' KV (I3): so parameters are good until the lease less a
 * margin, counted from when the answer came.
 */
import type { LegUsage } from "../../policy/vocabulary.ts";
import type { Handover } from "../../ports/engine.ts";

export type HandoverCheck = { readonly type: "ok"; readonly handover: Handover } | { readonly type: "unusable"; readonly detail: string };

export const PROTOCOL = "vllm";

export function checkHandover(params: unknown, prefill_usage: LegUsage, expires_at_ms: number): HandoverCheck {
  const unusable = (detail: string): HandoverCheck => ({ type: "unusable", detail });
  if (typeof params !== "object" || params === null || Array.isArray(params)) return unusable("no hand-over parameters");
  const p = params as Record<string, unknown>;
  if (p["do_remote_prefill"] !== true) return unusable("do_remote_prefill is not true");
  const groups = p["remote_block_ids"];
  if (!Array.isArray(groups) || groups.length === 0) return unusable("remote_block_ids is missing or empty");
  for (const group of groups as unknown[]) {
    if (!Array.isArray(group)) return unusable("remote_block_ids is flat");
    if (group.length === 0) return unusable("a group of remote_block_ids is empty");
    if (!group.every((id) => Number.isSafeInteger(id) && (id as number) >= 0)) return unusable("remote_block_ids holds no integers");
  }
  for (const field of ["remote_engine_id", "remote_request_id", "remote_host"]) {
    const value = p[field];
    if (typeof value !== "string" || value === "") return unusable(`${field} is missing`);
  }
  const port = p["remote_port"];
  if (!Number.isInteger(port) || (port as number) < 1 || (port as number) > 65_535) return unusable("remote_port is missing");
  return { type: "ok", handover: { engine: PROTOCOL, params: p, expires_at_ms, prefill_usage } };
}
