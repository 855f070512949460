/**
 * What a simulation is given and what it gives: a cluster, clients, and what became of their calls. The vocabulary that the virtual
 * cluster, the checkers, the planner and the benches share. All times are policy time (microseconds of virtual time).
 */
import type { Micros } from "../../schema/core/time.ts";
import type { Effect } from "../policy/effects.ts";
import type { SchedulerEvent } from "../policy/events.ts";
import type { MeteringRecord } from "../policy/metering/records.ts";
import type { Scheduler, SchedulerConfig } from "../policy/scheduler.ts";
import type { Call, CallOutcome, Role } from "../policy/vocabulary.ts";
import type { KvObserver, WorldFaults } from "./faults/hooks.ts";

/** Instances of one kind: `instances` of them, each on tp × pp GPUs of one node (or, wider than a node, of consecutive nodes). */
export type PoolSpec = {
  /** A name in engine-model's MODELS. */
  readonly model: string;
  readonly role: Role;
  readonly instances: number;
  readonly tp: number;
  readonly pp: number;
  /** Sequences at once, tokens a step (vLLM's max_num_seqs, max_num_batched_tokens). */
  readonly slots: number;
  readonly step_tokens: number;
  /** Prefill tokens in flight that the gateway allows one instance (D3). */
  readonly prefill_tokens_max: number;
  /** Null: what fits beside the weights at 0.9 of memory. */
  readonly kv_tokens: number | null;
  readonly context_tokens: number;
  readonly kv_lease: Micros;
  /** How its engines batch (engine-model/engine.ts). Absent: `chunked`. */
  readonly batching?: "chunked" | "prefill_first";
};

export type ClusterSpec = {
  readonly name: string;
  readonly nodes: number;
  readonly gpus_per_node: number;
  readonly pools: readonly PoolSpec[];
  readonly all_reduce: "nccl" | "nvrar";
  /** One way, gateway ↔ engine and client ↔ gateway. */
  readonly link_delay: Micros;
  /** How much later than a step's end its engine says what came of it. Absent: 0; engines that wait by coarse timers have one. */
  readonly notice_delay?: Micros;
};

/** A call, and what policy cannot see of it: how long its answer will be. The blocks of its prompt are `call.prefix`. */
export type SimCall = {
  readonly call: Call;
  readonly output_tokens: number;
};
export type Arrival = { readonly at: Micros; readonly sim: SimCall };

/**
 * A population of clients. Open loop (a trace): `first` gives arrivals in order of time and `ended` nothing. Closed loop (agents,
 * sessions): the end of a call brings the next, after tools or thought. Pulled one at a time, so that a long trace costs no memory.
 */
export interface Clients {
  /** The next arrival that depends on nothing, in order of time; null: there is none any more. */
  first(): Arrival | null;
  /** Arrivals that follow from the end of a call, none earlier than `at`. */
  ended(call: Call, outcome: CallOutcome, at: Micros): readonly Arrival[];
}

/** What became of one call. `null`: it did not come to that. */
export type CallTimes = {
  readonly call: Call;
  readonly outcome: CallOutcome;
  readonly arrived: Micros;
  /** Its last attempt's first leg was sent to an engine. */
  readonly started: Micros | null;
  readonly first_token: Micros | null;
  readonly last_token: Micros | null;
  readonly ended: Micros;
  readonly output_tokens: number;
  readonly cached_tokens: number;
  readonly prefill: string | null;
  readonly decode: string | null;
  /** From prefill's end to KV at decode. */
  readonly transfer: Micros | null;
};

export type InstanceTimes = {
  readonly instance: string;
  readonly role: Role;
  readonly gpus: number;
  readonly steps: number;
  /** Computing. */
  readonly busy: Micros;
  readonly prefill_tokens: number;
  readonly decode_tokens: number;
  readonly preemptions: number;
};

/** Everything that happens in a run, as it happens: for checkers, recorders, progress bars. Each may be absent. */
export interface Observer extends KvObserver {
  event?(event: SchedulerEvent, effects: readonly Effect[], now: Micros): void;
  record?(record: MeteringRecord): void;
  callEnded?(times: CallTimes): void;
  /** Virtual time passed this far (at least once a virtual second). */
  clock?(now: Micros): void;
}

/** The running world, for whoever injects faults into it. */
export type World = WorldFaults;

export type RunOptions = {
  readonly cluster: ClusterSpec;
  /** As a function: made anew for each epoch (from 1), so that a gateway that starts again knows nothing of before. */
  readonly policies: SchedulerConfig | ((epoch: number) => SchedulerConfig);
  readonly clients: Clients;
  /** Absent: policy's own. A test of checkers gives one that breaks its word. */
  readonly scheduler?: (config: SchedulerConfig) => Scheduler;
  readonly seed: number;
  readonly observer?: Observer;
  /** Called once, at instant 0, when nodes, instances and gateway are there and no client has come yet. */
  readonly setup?: (world: World) => void;
  /** Ends the run there, with what is known; without it, when all clients are done. */
  readonly until?: Micros;
  /** Asked once a virtual second: true ends the run there (Ctrl-C). */
  readonly stop?: () => boolean;
};

export type RunResult = {
  readonly ended_because: "clients_done" | "until" | "stopped";
  readonly virtual: Micros;
  readonly calls: readonly CallTimes[];
  readonly instances: readonly InstanceTimes[];
  /** Gaps between tokens of one answer, in microseconds: bucket lower bound → count (log-spaced, about 1 % wide). */
  readonly token_gaps: ReadonlyMap<number, number>;
  readonly engine_steps: number;
  readonly scheduler_events: number;
  readonly output_tokens: number;
};
