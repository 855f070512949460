/**
 * What happened, numbered from 1, for readers that poll. A reader names the stream and the last number it has seen; it waits
 * until there is more, and is told to start over from a snapshot when what it missed is no longer kept (I8).
 */
import { EVENTS_KEPT_MAX, POLLS_MAX, POLL_WAIT_MS_MAX } from "./limits.ts";
import type { NodeEvent } from "./wire.ts";

export type Read = { readonly type: "events"; readonly seq: number; readonly events: readonly NodeEvent[] } | { readonly type: "behind" };

export class Feed {
  /** A restarted agent counts from 1 again, in a stream of another name. */
  readonly stream: string;
  readonly #kept: NodeEvent[] = [];
  readonly #waiting = new Set<() => void>();
  #seq = 0;
  #closed = false;

  constructor(stream: string) {
    this.stream = stream;
  }

  get seq(): number {
    return this.#seq;
  }

  push(event: NodeEvent): void {
    this.#seq += 1;
    this.#kept.push(event);
    if (this.#kept.length > EVENTS_KEPT_MAX) this.#kept.shift();
    this.#wakeAll();
  }

  async read(stream: string, after: number, wait_ms: number, gone: AbortSignal): Promise<Read> {
    if (stream === this.stream && after === this.#seq) await this.#more(Math.min(wait_ms, POLL_WAIT_MS_MAX), gone);
    const first_kept = this.#seq - this.#kept.length;
    if (stream !== this.stream || after < first_kept || after > this.#seq) return { type: "behind" };
    return { type: "events", seq: this.#seq, events: this.#kept.slice(after - first_kept) };
  }

  close(): void {
    this.#closed = true;
    this.#wakeAll();
  }

  #more(wait_ms: number, gone: AbortSignal): Promise<void> {
    if (this.#closed || gone.aborted || this.#waiting.size >= POLLS_MAX) return Promise.resolve();
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        gone.removeEventListener("abort", wake);
        resolve();
      };
      const timer = setTimeout(wake, wait_ms);
      this.#waiting.add(wake);
      gone.addEventListener("abort", wake);
    });
  }

  #wakeAll(): void {
    for (const wake of this.#waiting) wake();
  }
}
