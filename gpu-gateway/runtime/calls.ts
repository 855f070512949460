/**
 * Every call that is in flight here, and for a while those that ended, so that a link that comes back finds its output.
 *
 * A call is *offered* (its client is connected, policy has not spoken), then *accepted* (in the journal) or refused at the
 * door, then *ended* exactly once (I2). An ended call that can be resumed is *retained* for LINK_RESUME_WINDOW_MS, at most
 * CALLS_RETAINED_MAX of them: the oldest go first. The same call id with the same body from the same tenant attaches; with another
 * body it is refused, for it is another call; from another tenant it is refused, and nothing is said about the first (I3).
 */
import type { CallId, LegId } from "../../schema/core/ids.ts";
import type { Micros } from "../../schema/core/time.ts";
import type { ChatRequest, CompletionRequest } from "../../schema/core/wire/chat.ts";
import { LINK_RESUME_WINDOW_MS } from "../../schema/core/wire/limits.ts";
import type { RawEstimate } from "../policy/estimate/tokens.ts";
import type { CallTags } from "../policy/metering/records.ts";
import type { Call, LegUsage } from "../policy/vocabulary.ts";
import type { LegRun } from "./leg-run.ts";
import { CALLS_IN_FLIGHT_MAX, CALLS_RETAINED_MAX, FRAMES_RETAINED_MAX } from "./limits.ts";
import type { CallOutput, LegSummary } from "./output.ts";

export type CallKind = "chat" | "completion";

export type CallEntry = {
  readonly call: Call;
  readonly tags: CallTags;
  readonly kind: CallKind;
  readonly body: ChatRequest | CompletionRequest;
  /** Of kind and body as they came; null where nobody may come back for the call. */
  readonly digest: string | null;
  readonly raw_estimate: RawEstimate;
  readonly cache_salt: string;
  readonly output: CallOutput;
  readonly resumable: boolean;
  /** Legs that run or hold KV. Hand-over parameters live in them and go nowhere else (I11). */
  readonly legs: Map<LegId, LegRun>;
  /** Tokens sent on to the client. */
  emitted: number;
  /** How many of them the journal has heard of. */
  noted: number;
  first_token_at: Micros | null;
  /** As the prefill leg said at its end, or the only leg with its first chunk; null until it did. */
  prompt: { readonly tokens: number; readonly cached: number } | null;
  served_by: LegSummary[];
  journaled: boolean;
};

/** What a client that attaches needs to know of a call, running or ended. */
export type KnownCall = Pick<CallEntry, "call" | "tags" | "kind" | "digest" | "output">;

/** What the client is billed for: prompt and cached tokens from the prefill leg, completion tokens from decode (D5). */
export function usageOf(entry: CallEntry, decode: LegUsage | null): LegUsage {
  const completion_tokens = decode?.completion_tokens ?? entry.emitted;
  return {
    prompt_tokens: entry.prompt?.tokens ?? decode?.prompt_tokens ?? 0,
    cached_tokens: entry.prompt?.cached ?? decode?.cached_tokens ?? 0,
    completion_tokens,
  };
}

export class CallRegistry {
  readonly #active = new Map<CallId, CallEntry>();
  /** In order of ending. */
  readonly #retained = new Map<CallId, { readonly known: KnownCall; readonly frames: number; readonly until_ms: number }>();
  #retained_frames = 0;

  get active(): number {
    return this.#active.size;
  }
  get full(): boolean {
    return this.#active.size >= CALLS_IN_FLIGHT_MAX;
  }

  find(id: CallId): KnownCall | undefined {
    return this.#active.get(id) ?? this.#retained.get(id)?.known;
  }
  running(id: CallId): CallEntry | undefined {
    return this.#active.get(id);
  }
  values(): IterableIterator<CallEntry> {
    return this.#active.values();
  }

  add(entry: CallEntry): void {
    this.#forget(entry.call.call_id);
    this.#active.set(entry.call.call_id, entry);
  }

  /** The call is over; whoever comes back within the window still finds its output. The body, which may be large, goes. */
  end(entry: CallEntry, now_ms: number): void {
    const id = entry.call.call_id;
    this.#active.delete(id);
    if (!entry.resumable || !entry.journaled) return;
    const { call, tags, kind, digest, output } = entry;
    const frames = output.kept;
    this.#retained.set(id, { known: { call, tags, kind, digest, output }, frames, until_ms: now_ms + LINK_RESUME_WINDOW_MS });
    this.#retained_frames += frames;
    for (const oldest of this.#retained.keys()) {
      if (this.#retained.size <= CALLS_RETAINED_MAX && this.#retained_frames <= FRAMES_RETAINED_MAX) return;
      this.#forget(oldest);
    }
  }

  /** Called on a tick: forgets what nobody came back for. */
  expire(now_ms: number): void {
    for (const [id, { until_ms }] of this.#retained) {
      if (until_ms > now_ms) return;
      this.#forget(id);
    }
  }

  #forget(id: CallId): void {
    const gone = this.#retained.get(id);
    if (gone === undefined) return;
    this.#retained.delete(id);
    this.#retained_frames -= gone.frames;
  }
}
