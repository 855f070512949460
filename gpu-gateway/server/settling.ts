/**
 * Settlements that are asked for: each asker is answered by one that began after it asked, all who wait share it, only one
 * runs at a time, and one begins at most every SETTLE_PERIOD_MS, however many ask (I8).
 */
import type { Meter } from "../runtime/meter.ts";
import { SETTLE_PERIOD_MS } from "./limits.ts";

type Settle = Meter["settle"];
type Settled = Awaited<ReturnType<Settle>>;

export class Settling {
  readonly #settle: Settle;
  /** The one that has not begun: whoever asks now shares it. */
  #next: Promise<Settled> | null = null;
  #running: Promise<unknown> = Promise.resolve();
  #began_ms = Number.NEGATIVE_INFINITY;

  constructor(settle: Settle) {
    this.#settle = settle;
  }

  ask(): Promise<Settled> {
    if (this.#next === null) {
      this.#next = this.#afterRunning();
      this.#running = this.#next.catch(() => undefined);
    }
    return this.#next;
  }

  async #afterRunning(): Promise<Settled> {
    await this.#running;
    const wait_ms = this.#began_ms + SETTLE_PERIOD_MS - performance.now();
    if (wait_ms > 0) await new Promise((resolve) => setTimeout(resolve, wait_ms));
    this.#next = null;
    this.#began_ms = performance.now();
    return this.#settle();
  }
}
