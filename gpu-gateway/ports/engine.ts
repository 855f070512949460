/**
 * Engine: an HTTP peer that serves legs (D2). One adapter per protocol; one conformance suite for all
 * (`engine.conformance.ts`), in which an absent capability is skipped by name.
 */
import type { ChatRequest, CompletionRequest } from "../../schema/core/wire/chat.ts";
import type { LegId } from "../../schema/core/ids.ts";
import type { Capabilities, LegFailure, LegRole, LegUsage } from "../policy/vocabulary.ts";

export type LegRequest = {
  readonly leg_id: LegId;
  /** Sent as X-Request-Id on every leg of the call. */
  readonly request_id: string;
  readonly role: LegRole;
  readonly kind: "chat" | "completion";
  /** Parsed and allow-listed; the adapter adds what only it may set. */
  readonly body: ChatRequest | CompletionRequest;
  /** The prefill leg's hand-over parameters, opaque; only on a decode leg of a two-leg call. */
  readonly handover: Handover | null;
  /** Prefix-cache isolation: HMAC(server key, tenant) (I3). */
  readonly cache_salt: string;
  /** Milliseconds to wait for the engine's answer headers; then the leg fails with `timeout`. */
  readonly accept_timeout_ms: number;
};

/** What prefill returned, validated by the adapter before it is passed on, never shown to a client (I11). */
export type Handover = {
  readonly engine: string;
  readonly params: Readonly<Record<string, unknown>>;
  /** Milliseconds on `monotoneMs()` of engines/monotone.ts, which never steps: past it no decode leg may begin. */
  readonly expires_at_ms: number;
  /** Measured at the prefill leg: the decode leg reports prompt and cached tokens from here (D5). */
  readonly prefill_usage?: LegUsage;
};

/** One coalesced piece of output. `delta` is an OpenAI delta, already stripped of engine-internal fields. */
export type LegDelta = {
  readonly choice: number;
  readonly delta: Readonly<Record<string, unknown>>;
  readonly tokens: number;
  readonly logprobs?: unknown;
  readonly finish_reason: string | null;
};

/** Called by the adapter, in this order: accepted, first delta…, then exactly one of finished, failed, cancelled. */
export interface LegSink {
  accepted(): void;
  /** A whole leg's prompt, as soon as the engine says how long it was; once at most, before the end. `finished` has the last word. */
  prompt(counts: Pick<LegUsage, "prompt_tokens" | "cached_tokens">): void;
  delta(delta: LegDelta): void;
  finished(end: {
    readonly usage: LegUsage;
    readonly finish_reason: string;
    readonly handover: Handover | null;
    /** The engine gave no valid usage block: tokens were counted from the deltas. */
    readonly usage_counted?: boolean;
  }): void;
  failed(error: LegFailure): void;
  cancelled(): void;
}

export interface RunningLeg {
  /** Closes the engine connection: the production abort path. The sink hears `cancelled` (or an end that came first). */
  cancel(): void;
}

export type EngineProbe = {
  readonly version: string;
  readonly kv_compat: string;
  readonly models: readonly { readonly id: string; readonly context_tokens: number }[];
  readonly capabilities: Capabilities;
  readonly slots: number;
  readonly kv_tokens: number;
  readonly kv_lease_ms: number;
};

export type EngineLoad = { readonly running: number; readonly waiting: number; readonly kv_usage: number };

export interface Engine {
  readonly protocol: string;
  start(leg: LegRequest, sink: LegSink): RunningLeg;
  probe(): Promise<EngineProbe>;
  healthy(): Promise<boolean>;
  load(): Promise<EngineLoad>;
  sleep(level: 1 | 2): Promise<void>;
  wake(): Promise<void>;
  close(): void;
}
