/**
 * One run inside the isolate: its capabilities, what they answer, and the lines and events on their way out. Everything that
 * crosses is JSON text, so that no function or object of the guest's is ever held outside.
 */
import type { GuestInvocation, GuestReply, GuestRequest } from "../../schema/core/wire/guest.ts";
import { MillraceError } from "./error.ts";
import { toJson } from "./json.ts";

/** A capability as it arrives in the entrypoint's props. */
export type Capability = { ask(request: string): Promise<string> };
export type StreamingCapability = Capability & { open(request: string): Promise<ReadableStream<Uint8Array>> };
export type Capabilities = {
  readonly ai: StreamingCapability;
  readonly memory: Capability;
  readonly call: Capability;
  readonly journal: Capability;
  /** The run's own way out; absent where its egress list is empty. */
  readonly egress?: { fetch(request: Request): Promise<Response> };
};

type JournalEntry = Extract<GuestRequest, { op: "journal" }>["entries"][number];
/** `Omit` over each member of the union. */
type Loose<T> = T extends unknown ? { [K in keyof T]: T[K] | undefined } : never;

const JOURNAL_BATCH_MAX = 64;
/** Below what a capability takes, with its envelope. */
const JOURNAL_BATCH_BYTES_MAX = 1_000_000;
/** Outgoing requests of a run that may await their headers at once: the platform's limit, kept here too. Further ones wait, first come first served. */
const FETCHES_PENDING_MAX = 6;

export class Session {
  readonly invocation: GuestInvocation;
  readonly #capabilities: Capabilities;
  #journal: JournalEntry[] = [];
  #flushing: Promise<void> = Promise.resolve();
  #fetches = 0;
  readonly #fetch_queue: (() => void)[] = [];
  readonly #timers = new Set<number>();
  #over = false;

  constructor(invocation: GuestInvocation, capabilities: Capabilities) {
    this.invocation = invocation;
    this.#capabilities = capabilities;
  }

  get over(): boolean {
    return this.#over;
  }

  /**
   * The answer is on its way, or nobody waits for it. What is left of the run's code stands still at its next await of anything outside:
   * it is not refused, for a loop that catches refusals would turn without end.
   */
  end(): void {
    this.#over = true;
    for (const timer of this.#timers) clear(timer);
    this.#timers.clear();
    this.#journal = [];
  }

  /** Timers that `end` clears. */
  keep(timer: number): void {
    this.#timers.add(timer);
  }

  forget(timer: number): void {
    this.#timers.delete(timer);
  }

  async fetch(request: Request): Promise<Response> {
    const { egress } = this.#capabilities;
    if (!egress) throw new MillraceError("egress_forbidden", "The function's egress list is empty.");
    return this.#fetchSlot(() => (this.#over ? never() : egress.fetch(request)));
  }

  async ask(capability: Exclude<keyof Capabilities, "egress">, request: Loose<GuestRequest>): Promise<unknown> {
    const text = encode(request);
    await this.#flushed();
    if (this.#over) return never();
    return unwrap(await this.#capabilities[capability].ask(text));
  }

  async open(request: Loose<GuestRequest>): Promise<ReadableStream<Uint8Array>> {
    const text = encode(request);
    await this.#flushed();
    if (this.#over) return never();
    return this.#capabilities.ai.open(text);
  }

  /** Takes its place in the order now; leaves with the next flush. */
  record(entry: JournalEntry): void {
    if (this.#over) return;
    this.#journal.push(entry);
    if (this.#journal.length === 1) queueMicrotask(() => void this.flush().catch(() => undefined));
  }

  /** Resolves when everything recorded so far is durable. */
  async flush(): Promise<void> {
    if (this.#over) return never();
    if (this.#journal.length > 0) {
      const entries = this.#journal;
      this.#journal = [];
      const before = this.#flushing;
      const sent = this.#send(entries, before);
      // Whose entry was refused is told; who comes after is not.
      this.#flushing = sent.catch(() => undefined);
      return sent;
    }
    await this.#flushing;
  }

  /** What was recorded before has its place first. That it was refused is told to whoever recorded it, not to who comes after. */
  #flushed(): Promise<void> {
    return this.flush().catch(() => undefined);
  }

  async #send(entries: JournalEntry[], before: Promise<void>): Promise<void> {
    await before.catch(() => undefined);
    for (let at = 0; at < entries.length;) {
      let to = at;
      for (let size = 0; to < entries.length && to - at < JOURNAL_BATCH_MAX; to += 1) {
        size += byteLength(JSON.stringify(entries[to])) + 1;
        if (to > at && size > JOURNAL_BATCH_BYTES_MAX) break;
      }
      unwrap(await this.#capabilities.journal.ask(encode({ op: "journal", entries: entries.slice(at, to) })));
      at = to;
    }
  }

  async #fetchSlot<T>(work: () => Promise<T>): Promise<T> {
    if (this.#fetches >= FETCHES_PENDING_MAX) await new Promise<void>((resolve) => this.#fetch_queue.push(resolve));
    else this.#fetches += 1;
    try {
      return await work();
    } finally {
      const next = this.#fetch_queue.shift();
      if (next) next();
      else this.#fetches -= 1;
    }
  }
}

/** Taken before the user's module is evaluated. */
const clear = globalThis.clearTimeout;
const utf8 = new TextEncoder();
const encodeText = utf8.encode.bind(utf8);

export const byteLength = (text: string): number => encodeText(text).length;
const never = <T>(): Promise<T> => new Promise(() => undefined);

function encode(request: Loose<GuestRequest>): string {
  const json = toJson(request, "request");
  if (!json.ok) throw new MillraceError("invalid_request", json.detail.replace(/^request\./, ""));
  return json.text;
}

function unwrap(text: string): unknown {
  const reply = JSON.parse(text) as GuestReply;
  if (reply.ok) return reply.value;
  throw asError(reply.error);
}

export function asError(error: Extract<GuestReply, { ok: false }>["error"]): MillraceError {
  return new MillraceError(error.code, error.detail ?? error.code, error.param);
}
