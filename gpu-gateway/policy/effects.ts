/**
 * What the scheduler asks for. Every effect has an id and exactly one outcome event (D4):
 * start_leg → leg_accepted…leg_finished | leg_failed | leg_cancelled; cancel_leg → leg_cancelled (or the leg's own end, if it
 * came first); launch_group → group_launched | launch_failed; stop_group → group_stopped | group_lost.
 * The others have no outcome: they tell or remember.
 */
import type { Failure } from "../../schema/core/errors.ts";
import type { CallId, GroupId, InstanceId, LegId } from "../../schema/core/ids.ts";
import type { Micros } from "../../schema/core/time.ts";
import type { CallOutcome, LegRef, LegRole, PrefixFetch, Role } from "./vocabulary.ts";

export type Effect =
  | {
      readonly type: "start_leg";
      readonly effect_id: string;
      readonly leg_id: LegId;
      readonly call_id: CallId;
      readonly attempt: number;
      readonly role: LegRole;
      readonly instance_id: InstanceId;
      /** For a decode leg: the finished prefill leg whose hand-over parameters it takes. */
      readonly from_leg: LegRef | null;
      /** A hint, from a routing that was told to give it: an engine that can fetch KV from its peers does so, others compute it. */
      readonly fetch_prefix_from?: PrefixFetch;
      /** Weight of this leg while it is active, for cost allocation (metering/). */
      readonly weight: number;
      /** On a prefill leg of two: its weight once it has finished and only holds KV for decode. */
      readonly holding_weight?: number;
      /** The runtime gives up on the leg's acceptance after this instant (decode: KV lease less margin). */
      readonly accept_by: Micros;
    }
  | { readonly type: "cancel_leg"; readonly effect_id: string; readonly leg_id: LegId; readonly reason: string }
  /** A decode slot is kept for the call from before its prefill starts until its decode leg ends (D3). */
  | { readonly type: "reserve_decode"; readonly call_id: CallId; readonly instance_id: InstanceId }
  | { readonly type: "release_decode"; readonly call_id: CallId; readonly instance_id: InstanceId }
  /** Never queued: refused at the door. */
  | { readonly type: "reject"; readonly call_id: CallId; readonly failure: Failure; readonly retry_after_ms: number }
  /** Queued; the client is told its place. */
  | { readonly type: "progress"; readonly call_id: CallId; readonly position: number }
  /** The call is over; its client is told; nothing more comes for it. */
  | { readonly type: "end_call"; readonly call_id: CallId; readonly outcome: CallOutcome; readonly retry_after_ms: number | null }
  | { readonly type: "launch_group"; readonly effect_id: string; readonly group_id: GroupId; readonly model: string; readonly role: Role }
  | { readonly type: "stop_group"; readonly effect_id: string; readonly group_id: GroupId; readonly drain: boolean }
  /** Call `handle({type:"timer"}, now)` at or after this instant. Only the earliest pending one counts. */
  | { readonly type: "wake_at"; readonly at: Micros };
