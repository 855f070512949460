/**
 * What a call says to its clients: token frames numbered from 1 without gaps, then one last frame.
 *
 * Readers pull. The output wakes them; each takes the frames after its own cursor as fast as its socket allows. A frame that
 * nobody has taken yet grows by what follows it (coalescing), so that a slow reader costs frames and time, not memory;
 * CALL_UNREAD_BYTES_MAX bounds what may wait, LINK_BUFFER_FRAMES_MAX what is kept for a reader that comes back. Nothing is
 * readable before the gate opens, which is when the call is durable in the journal (D4), or when it was refused at the door.
 */
import type { Failure } from "../../schema/core/errors.ts";
import type { LegId, InstanceId } from "../../schema/core/ids.ts";
import { LINK_BUFFER_FRAMES_MAX, N_MAX } from "../../schema/core/wire/limits.ts";
import type { LegRole, LegUsage } from "../policy/vocabulary.ts";
import type { LegDelta } from "../ports/engine.ts";
import { CALL_UNREAD_BYTES_MAX } from "./limits.ts";

export type LegSummary = { readonly leg: LegId; readonly role: LegRole; readonly instance: InstanceId };

export type TokenFrame = { readonly type: "token"; readonly n: number } & LegDelta;
export type EndFrame =
  | {
      readonly type: "done";
      readonly n: number;
      readonly finish_reason: string;
      readonly usage: LegUsage;
      readonly legs: readonly LegSummary[];
    }
  | {
      readonly type: "refused";
      readonly n: number;
      readonly failure: Failure;
      readonly emitted: number;
      readonly usage: LegUsage | null;
      readonly retry_after_ms: number | null;
    };
export type OutputFrame = TokenFrame | EndFrame;

export interface OutputReader {
  /** There may be frames after your cursor, or the call was accepted or moved in the queue. */
  wake(): void;
}

export type AppendOutcome = "kept" | "overflow";

export class CallOutput {
  #frames: OutputFrame[] = [];
  /** Number of the first frame still kept. */
  #first = 1;
  #next = 1;
  #taken = 0;
  #unread_bytes = 0;
  #ended = false;
  #open = false;
  #accepted = false;
  #position: number | null = null;
  readonly #readers = new Set<OutputReader>();
  /** Without it a frame goes once it was taken: nobody can come back for it. */
  readonly #resumable: boolean;

  constructor(resumable: boolean) {
    this.#resumable = resumable;
  }

  get accepted(): boolean {
    return this.#accepted;
  }
  /** Place in the queue, while the call waits. */
  get position(): number | null {
    return this.#position;
  }
  get ended(): boolean {
    return this.#ended;
  }
  get readers(): number {
    return this.#readers.size;
  }
  /** How many frames are kept. */
  get kept(): number {
    return this.#frames.length;
  }
  /** Whether a reader that has everything up to `from` can go on. */
  has(from: number): boolean {
    return from + 1 >= this.#first && from < this.#next;
  }

  attach(reader: OutputReader): void {
    this.#readers.add(reader);
  }
  detach(reader: OutputReader): void {
    this.#readers.delete(reader);
  }

  /** The call stands in the journal. */
  accept(): void {
    this.#accepted = true;
    this.#open = true;
    this.#wakeAll();
  }

  queuedAt(position: number): void {
    this.#position = position;
    this.#wakeAll();
  }

  append(delta: LegDelta): AppendOutcome {
    if (this.#ended) return "kept";
    this.#position = null;
    const at = this.#growable(delta);
    const last = at === -1 ? undefined : this.#frames[at];
    if (last?.type === "token") {
      const grown = merge(last, delta);
      this.#frames[at] = grown;
      this.#unread_bytes += weigh(grown) - weigh(last);
    } else {
      this.#frames.push({ ...delta, type: "token", n: this.#next++ });
      this.#unread_bytes += weigh(delta);
      this.#trim();
    }
    this.#wakeAll();
    return this.#unread_bytes > CALL_UNREAD_BYTES_MAX ? "overflow" : "kept";
  }

  done(end: Omit<Extract<EndFrame, { type: "done" }>, "type" | "n">): void {
    this.#end({ type: "done", n: this.#next, ...end });
  }

  refuse(end: Omit<Extract<EndFrame, { type: "refused" }>, "type" | "n">): void {
    if (!this.#accepted) this.#open = true;
    this.#end({ type: "refused", n: this.#next, ...end });
  }

  /** The frame after `cursor`, if it is there and may be read. Taking it fixes it: it grows no more. */
  take(cursor: number): OutputFrame | undefined {
    if (!this.#open) return undefined;
    const frame = this.#frames[cursor + 1 - this.#first];
    if (frame === undefined || frame.n <= this.#taken) return frame;
    this.#taken = frame.n;
    if (frame.type === "token") this.#unread_bytes -= weigh(frame);
    if (!this.#resumable) {
      this.#frames.splice(0, frame.n - this.#first);
      this.#first = frame.n;
    }
    return frame;
  }

  #end(frame: EndFrame): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#position = null;
    this.#frames.push(frame);
    this.#next += 1;
    this.#trim();
    this.#wakeAll();
  }

  /** Index of the frame that this piece may grow: its choice's last one, if nobody has taken it. Choices come interleaved. */
  #growable(delta: LegDelta): number {
    const oldest = Math.max(0, this.#frames.length - N_MAX);
    for (let at = this.#frames.length - 1; at >= oldest; at--) {
      const frame = this.#frames[at];
      if (frame?.type !== "token" || frame.n <= this.#taken) return -1;
      if (frame.choice === delta.choice) return mergeable(frame, delta) ? at : -1;
    }
    return -1;
  }

  #trim(): void {
    if (this.#frames.length <= LINK_BUFFER_FRAMES_MAX) return;
    const gone = this.#frames.shift();
    this.#first += 1;
    if (gone?.type === "token" && gone.n > this.#taken) this.#unread_bytes -= weigh(gone);
  }

  #wakeAll(): void {
    for (const reader of this.#readers) reader.wake();
  }
}

/** Only plain text grows: tool calls, logprobs and the end of a choice keep the frame that the engine gave them. */
function mergeable(last: TokenFrame, delta: LegDelta): boolean {
  if (last.finish_reason !== null || last.logprobs !== undefined || delta.logprobs !== undefined) return false;
  return onlyContent(last.delta, true) && onlyContent(delta.delta, false);
}

function onlyContent(delta: Readonly<Record<string, unknown>>, role_allowed: boolean): boolean {
  for (const key of Object.keys(delta)) {
    if (key === "content" ? typeof delta[key] !== "string" : !(role_allowed && key === "role")) return false;
  }
  return true;
}

function merge(last: TokenFrame, delta: LegDelta): TokenFrame {
  const content = `${textOf(last.delta)}${textOf(delta.delta)}`;
  return { ...last, delta: { ...last.delta, content }, tokens: last.tokens + delta.tokens, finish_reason: delta.finish_reason };
}

const textOf = (delta: Readonly<Record<string, unknown>>): string => (typeof delta["content"] === "string" ? delta["content"] : "");

/** Bytes, roughly: text by its length, anything else by its JSON. */
function weigh(delta: LegDelta): number {
  let bytes = 64;
  for (const value of Object.values(delta.delta)) bytes += typeof value === "string" ? value.length : JSON.stringify(value ?? null).length;
  return delta.logprobs === undefined ? bytes : bytes + JSON.stringify(delta.logprobs).length;
}
