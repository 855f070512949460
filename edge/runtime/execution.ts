/**
 * The engine that executes one guest function inside a Durable Object; Run and AgentSession both use it.
 *
 *   object.run ──▶ Execution.run ──▶ isolate (guest) ──▶ capability entrypoint ──▶ object.guest ──▶ Execution.guest
 *
 * An object that hosts executions offers the RPC methods of `ExecutionHost` and forwards each to the execution it names.
 * Everything that happened is a fact; facts go to the sink inside one storage transaction with the engine's own rows, before
 * anyone can see them (I4). The engine's rows (steps, frames) make a replay return what the first attempt saw (D11).
 */
export { createExecution } from "./engine.ts";
export { stopCalled } from "./children.ts";
export { forgetExecution } from "./tables.ts";
import type { Failure } from "../../schema/core/errors.ts";
import type { z } from "zod";
import type { FunctionId, ProgramId, ProjectId, RunId, SessionId, TenantId, VersionId } from "../../schema/core/ids.ts";
import type { TokenUsage } from "../../schema/core/wire/chat.ts";
import type { deployRequest } from "../../schema/core/wire/http.ts";
import type { UsageEvent } from "../../schema/core/wire/usage.ts";
import type { Env } from "../env.ts";
import type { ResolvedFunction } from "../functions.ts";
import type { Result } from "./result.ts";
import type { GatewayCall, GatewayFrame } from "../gateway-client-call.ts";

/** Who executes, for whom. Set by the object from what the door verified; a guest never names any of it. */
export type ExecutionIdentity = {
  readonly tenant: TenantId;
  readonly project: ProjectId;
  /** The key that began it: travels in the gateway's token, so that a revoked key stops what it began. */
  readonly key: string;
  readonly function: FunctionId;
  readonly function_name: string;
  readonly version: VersionId;
  /** What all model calls of this run or turn share: the root run's id, or `<session>/<turn>`. */
  readonly program: ProgramId;
  /** The root run; absent in a session's turn. */
  readonly run?: RunId;
  readonly session?: SessionId;
  /** The agent that usage is attributed to where the guest names none: the function's name. */
  readonly agent: string;
  /** Where this execution stands in its program: empty at the root, `call#2/` in a called function. */
  readonly path_prefix: string;
  /** 0 at the root; one more in each called function. */
  readonly depth: number;
  /** The object that owns the program's link; absent at the root itself. */
  readonly root?: HostAddress;
};

/** A Durable Object that hosts executions, by binding and object id. */
export type HostAddress = { readonly binding: "RUNS" | "SESSIONS"; readonly id: string };

export type FunctionConfig = z.infer<typeof deployRequest>["config"];

/** The code of a version: fetched only when no isolate of it is loaded. */
export type FunctionCode = { readonly hash: string; readonly config_hash: string; load(): Promise<Result<string>> };

export type ExecutionFact =
  | {
      readonly type: "step";
      readonly path: string;
      readonly agent?: string;
      readonly status: "started" | "done" | "failed";
      readonly error?: Failure;
    }
  | { readonly type: "delta"; readonly step: string; readonly agent?: string; readonly text: string }
  | { readonly type: "event"; readonly name: string; readonly data: unknown }
  | { readonly type: "usage"; readonly call: string; readonly agent?: string; readonly usage: TokenUsage }
  | { readonly type: "log"; readonly at_ms: number; readonly level: "debug" | "info" | "warn" | "error"; readonly text: string };

/** Called synchronously inside a storage transaction: append the facts to the object's log, then arrange that readers look. */
export type ExecutionSink = { append(facts: readonly ExecutionFact[]): void };

export type Outcome =
  | { readonly status: "done"; readonly output: unknown }
  /** `began: false`: the guest's code was never started, for a reason of ours. */
  | { readonly status: "failed"; readonly error: Failure; readonly began?: false }
  | { readonly status: "cancelled"; readonly error: Failure };

/** The part of the gateway client (gateway-client.ts) that the engine uses; a called function's Run puts the root's relay here. */
export type ModelLink = {
  call(request: GatewayCall, onFrame: (frame: GatewayFrame) => void | Promise<void>): Promise<void>;
  cancel(call: string, reason: string): void;
};

export type ExecutionOptions = {
  readonly ctx: DurableObjectState;
  readonly env: Env;
  readonly host: HostAddress;
  readonly identity: ExecutionIdentity;
  readonly code: FunctionCode;
  readonly config: FunctionConfig;
  readonly gateway: ModelLink;
  readonly sink: ExecutionSink;
  /** UTC milliseconds at which the execution is stopped with `function_timeout`. Fixed at the first attempt, kept on replay. */
  readonly deadline_at_ms: number;
};

export type Execution = {
  /** Names this attempt; capabilities of another attempt, or of one that is over, are denied. */
  readonly id: string;
  /** Runs the guest to its end. Never rejects: what went wrong is in the outcome. */
  run(input: unknown): Promise<Outcome>;
  /** Stops the guest, its model calls and the functions it called. `run` then resolves as cancelled. */
  cancel(reason: string): void;
  /** The same, but `run` resolves as failed: a limit of its object was reached. */
  fail(error: Failure): void;
  /** One request of the guest, JSON text in and out (see guest-protocol.ts). */
  guest(request: string): Promise<string>;
  guestStream(request: string): ReadableStream<Uint8Array>;
  /** A model call of a called function, over this object's link: frames as NDJSON, stored ones first, then live ones. */
  relay(request: GatewayCall): ReadableStream<Uint8Array>;
  cancelRelay(call: string, reason: string): void;
  childDone(run: RunId, outcome: Outcome): void;
  /** At the program's root: what a name stands for in it. Rejects while the database is away. */
  callee(name: string): Promise<ResolvedFunction | null>;
  /** At the program's root: a called function's code. */
  calleeCode(version: string): Promise<Result<string>>;
};

/** The RPC methods of an object that hosts executions. Session: `execution` is the turn's `Execution.id`; `program` names the turn. */
export type ExecutionHost = {
  guest(execution: string, request: string): Promise<string>;
  guestStream(execution: string, request: string): Promise<ReadableStream<Uint8Array>>;
  relay(program: string, request: GatewayCall): Promise<ReadableStream<Uint8Array>>;
  cancelRelay(program: string, call: string, reason: string): Promise<void>;
  childDone(program: string, run: RunId, outcome: Outcome): Promise<void>;
  /** Whether the program goes on here: a called function whose caller is over has nobody to work for. */
  executes(program: string): Promise<boolean>;
  /** Both reject once the program is over. */
  callee(program: string, name: string): Promise<ResolvedFunction | null>;
  calleeCode(program: string, version: string): Promise<Result<string>>;
  /** Usage of a called function, to go to Postgres with its root's. True: it is durable here. False: there is no place for it. */
  childUsage(events: readonly UsageEvent[]): Promise<boolean>;
};
