/** What a session's parts do that a checker must hear of, as each part says it of itself. */
import type { CallId, SessionId } from "../../../schema/core/ids.ts";

/** An event of a session's log: what is told of a call is its words and its end. */
export type LoggedBody =
  | { readonly type: "message"; readonly turn: number }
  | { readonly type: "delta"; readonly call: CallId; readonly text: string }
  | { readonly type: "call_over"; readonly call: CallId; readonly how: "done" | "refused"; readonly code: string | null };
export type Logged = LoggedBody & { readonly seq: number };

export type SessionFact =
  /** The gateway handed a call's words to its output: the first `tokens` of its answer exist now. */
  | { readonly type: "produced"; readonly call: CallId; readonly tokens: number }
  /** The session's object stored events: durable from here on. */
  | { readonly type: "stored"; readonly session: SessionId; readonly events: readonly Logged[] }
  /** The user's client has an event. */
  | { readonly type: "seen"; readonly session: SessionId; readonly event: Logged }
  /** The gateway's link asked for, or sent, what its rules do not allow. */
  | { readonly type: "link_breach"; readonly session: SessionId; readonly words: string }
  /** The session sent a call for the first time, or again on a new link. */
  | { readonly type: "sent"; readonly session: SessionId; readonly call: CallId; readonly from: number };
