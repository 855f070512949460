/** What the scheduler is told. The runtime makes these from sockets, engines, providers and timers. */
import type { CallId, GroupId, InstanceId, LegId } from "../../schema/core/ids.ts";
import type { Call, Instance, InstanceState, LegFailure, LegUsage } from "./vocabulary.ts";

export type SchedulerEvent =
  | { readonly type: "call_arrived"; readonly call: Call }
  | { readonly type: "call_cancelled"; readonly call_id: CallId; readonly reason: string }
  /** The engine has taken the leg (answered with headers). For a decode leg: the KV lease no longer runs. */
  | { readonly type: "leg_accepted"; readonly leg_id: LegId }
  | { readonly type: "leg_first_token"; readonly leg_id: LegId }
  /** Coalesced per tick; `tokens` is the total so far. */
  | { readonly type: "leg_progress"; readonly leg_id: LegId; readonly tokens: number }
  /** For a prefill leg: KV is held at the instance and its hand-over parameters were validated by the adapter. */
  | { readonly type: "leg_finished"; readonly leg_id: LegId; readonly usage: LegUsage; readonly finish_reason: string }
  /** `tokens`: how many had been sent on to the client. */
  | { readonly type: "leg_failed"; readonly leg_id: LegId; readonly error: LegFailure; readonly tokens: number }
  /** The engine has confirmed (connection closed) that a cancelled leg is over. */
  | { readonly type: "leg_cancelled"; readonly leg_id: LegId; readonly tokens: number }
  /** The prefill instance no longer holds the KV of this leg: pulled, released, or its lease ran out. */
  | { readonly type: "kv_released"; readonly leg_id: LegId }
  | { readonly type: "group_launched"; readonly group_id: GroupId; readonly instances: readonly Instance[] }
  | { readonly type: "instance_state"; readonly instance_id: InstanceId; readonly state: InstanceState }
  | { readonly type: "group_lost"; readonly group_id: GroupId; readonly reason: string }
  | { readonly type: "group_stopped"; readonly group_id: GroupId }
  /** Engine's own load figures, sampled. */
  | {
      readonly type: "instance_sampled";
      readonly instance_id: InstanceId;
      readonly running: number;
      readonly waiting: number;
      readonly kv_usage_ppm: number;
    }
  | { readonly type: "launch_failed"; readonly effect_id: string; readonly reason: string }
  /** A `wake_at` came due. The first one ever also says that adoption is over: no group is launched or stopped before it. */
  | { readonly type: "timer" };
