/** What a run is started with, and what its object answers: plain data, for the doors and for parents alike. */
import type { Failure } from "../../schema/core/errors.ts";
import type { RunId } from "../../schema/core/ids.ts";
import type { RUN_STATUSES } from "../../schema/core/wire/http.ts";
import type { ExecutionHost, ExecutionIdentity, FunctionConfig, HostAddress, Outcome } from "../runtime/execution.ts";

export type RunSpec = {
  readonly run: RunId;
  readonly identity: ExecutionIdentity;
  readonly code_hash: string;
  readonly config_hash: string;
  readonly config: FunctionConfig;
  /** JSON text. */
  readonly input: string;
  /** A hash of what was asked for: another one under the same id is another request. */
  readonly request: string;
  /** Left out at the door: the object counts `timeout_ms` from when it was started. */
  readonly deadline_at_ms?: number;
  /** Who is told when it is over. */
  readonly parent?: HostAddress;
};

export type RunView = {
  readonly run: RunId;
  readonly function: string;
  readonly version: string;
  readonly status: (typeof RUN_STATUSES)[number];
  readonly created_at_ms: number;
  readonly finished_at_ms: number | null;
  readonly output?: unknown;
  readonly error?: Failure;
};

/** `attached`: the run was there already, started by the same request. `outcome`: it is over. */
export type RunStarted =
  | { readonly type: "created" | "attached"; readonly view: RunView; readonly outcome?: Outcome }
  | { readonly type: "refused"; readonly error: Failure };

export type LogLine = {
  readonly seq: number;
  readonly at_ms: number;
  readonly level: "debug" | "info" | "warn" | "error";
  readonly text: string;
};

/** `seq` is the last line's number, 0 for none; `dropped`: how many came after it and were not kept. */
export type LogPage = { readonly lines: LogLine[]; readonly seq: number; readonly dropped: number };

/** Whose run it is. */
export type Owner = { readonly tenant: string; readonly project: string };
/** Who reads for as long as a run lasts: the key is looked at again. */
export type EventsReader = Owner & { readonly key: string };

/** The Run object's RPC methods. Every question carries who asks: another tenant's or project's run is not there (I10). */
export type RunObject = ExecutionHost & {
  start(spec: RunSpec): Promise<RunStarted>;
  view(owner: Owner): Promise<RunView | null>;
  /** Resolves when the run is over. */
  finished(owner: Owner): Promise<RunView | null>;
  /** Server-sent events with seq > `after`, to the run's end. */
  events(reader: EventsReader, after: number): Promise<ReadableStream<Uint8Array> | null>;
  /** A page of what it logged, after line `after`. */
  logs(owner: Owner, after: number): Promise<LogPage | null>;
  cancel(owner: Owner, reason: string): Promise<RunView | null>;
  /** From a parent that is over. */
  stop(reason: string): Promise<void>;
};
