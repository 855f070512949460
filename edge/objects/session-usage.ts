/** What a session uses at the edge, as usage events: the time its sockets are open, its turns and their wall time. */
import { deriveId } from "../../schema/core/ids.ts";
import type { UsageEvent } from "../../schema/core/wire/usage.ts";
import type { Reader } from "./session-readers.ts";
import type { SessionIdentity } from "./session-store.ts";
import type { TurnRow } from "./session-turns.ts";

/** A socket that stays open is accounted for in pieces of this length or longer, so that a crash loses no more of it. */
export const SESSION_TIME_PIECE_MS = 60_000;

const ns = (ms: number): bigint => BigInt(Math.round(ms)) * 1_000_000n;

function usage(
  identity: SessionIdentity,
  kind: UsageEvent["kind"],
  name: string,
  from_ms: number,
  to_ms: number,
  quantity: bigint,
): UsageEvent {
  const { session, tenant, project, version } = identity;
  return {
    id: deriveId("usage", "edge", kind, session, name),
    source: "edge",
    kind,
    from_ns: String(ns(from_ms)),
    to_ns: String(ns(to_ms)),
    quantity: String(quantity),
    tenant,
    project,
    function: identity.function,
    version,
    session,
  };
}

export function socketTime(identity: SessionIdentity, reader: Reader, now_ms: number): UsageEvent[] {
  const from_ms = reader.metered_at_ms;
  if (now_ms <= from_ms) return [];
  return [usage(identity, "session_time", `${reader.socket_id}/${from_ms}`, from_ms, now_ms, ns(now_ms - from_ms))];
}

export function turnUsage(identity: SessionIdentity, turn: TurnRow, now_ms: number): UsageEvent[] {
  const to_ms = Math.max(now_ms, turn.started_at_ms);
  const program = { program: `${identity.session}/${turn.turn}` };
  return [
    { ...usage(identity, "edge_request", turn.turn, turn.started_at_ms, to_ms, 1n), ...program },
    { ...usage(identity, "edge_wall", turn.turn, turn.started_at_ms, to_ms, ns(to_ms - turn.started_at_ms)), ...program },
  ];
}
