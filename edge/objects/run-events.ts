/**
 * A run's events as server-sent events. A reader has nothing but its position: it reads rows after it, waits until they are
 * durable (I4), sends them, and asks again when the run has moved on; a slow reader costs one batch of memory.
 */
import type { RunLog } from "./run-log.ts";
import type { SessionKeys } from "./session-keys.ts";

/** Readers of one run at once: a further one is refused with `rate_limited`. */
export const RUN_READERS_MAX = 64;
const BATCH = 256;
/** A comment this often keeps proxies from closing a quiet stream. */
const HEARTBEAT_MS = 15_000;

export class RunReaders {
  readonly #storage: DurableObjectStorage;
  readonly #log: RunLog;
  readonly #keys: SessionKeys;
  readonly #wake = new Set<() => void>();
  #count = 0;

  constructor(storage: DurableObjectStorage, log: RunLog, keys: SessionKeys) {
    this.#storage = storage;
    this.#log = log;
    this.#keys = keys;
  }

  get full(): boolean {
    return this.#count >= RUN_READERS_MAX;
  }

  /** There are new rows. */
  moved(): void {
    const waiting = [...this.#wake];
    this.#wake.clear();
    for (const resolve of waiting) resolve();
  }

  /** Ends early, at the next events or heartbeat, once the reader's key is no longer good. */
  stream(key: string, after: number): ReadableStream<Uint8Array> {
    const encoder = new TextEncoder();
    let seq = after;
    let last = false;
    this.#count += 1;
    let counted = true;
    const leave = () => {
      if (counted) this.#count -= 1;
      counted = false;
    };
    return new ReadableStream({
      type: "bytes",
      pull: async (controller) => {
        if (last) {
          leave();
          controller.close();
          return;
        }
        for (;;) {
          if (!(await this.#keys.isGood(key, Date.now()))) {
            leave();
            controller.close();
            return;
          }
          const rows = this.#log.eventsAfter(seq, BATCH);
          if (rows.length === 0) {
            if (this.#log.read().outcome !== undefined) {
              leave();
              controller.close();
              return;
            }
            if (await this.#movedWithin(HEARTBEAT_MS)) continue;
            controller.enqueue(encoder.encode(": still running\n\n"));
            return;
          }
          await this.#storage.sync();
          seq = rows.at(-1)?.seq ?? seq;
          last = rows.some((row) => row.type === "run.done" || row.type === "run.failed");
          controller.enqueue(encoder.encode(rows.map(sse).join("")));
          return;
        }
      },
      cancel: leave,
    });
  }

  async #movedWithin(ms: number): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const moved = () => resolve(true);
    this.#wake.add(moved);
    const timer = setTimeout(() => resolve(false), ms);
    const result = await promise;
    clearTimeout(timer);
    this.#wake.delete(moved);
    return result;
  }
}

/** JSON has no line breaks of its own, so one `data:` line holds it. */
function sse(row: { seq: number; type: string; body: string }): string {
  return `id: ${row.seq}\nevent: ${row.type}\ndata: {"seq":${row.seq},${row.body.slice(1)}\n\n`;
}
