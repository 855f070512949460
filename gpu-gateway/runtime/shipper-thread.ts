/**
 * The shipper in a thread of its own: folding, hashing and inserting come in bursts, and the gateway's loop has tokens to pass on.
 *
 * The thread reads the journal's files and writes to the ledger; nothing else is shared. `starting → serving → closing → ended`. A
 * thread that ends unasked is started again after a backoff, from the position that was saved: what it had in hand is sent
 * again, under the same ids (I6). Whoever waits for a settlement is told that the ledger is behind. One that was superseded is not started
 * again.
 */
import { Worker } from "node:worker_threads";
import type { Nanos } from "../../schema/core/time.ts";
import type { FromShipper, ShippedRows, ThreadStart, ToShipper } from "./shipper-messages.ts";
import { SHIP_BACKOFF_MAX_MS, SHIP_BACKOFF_MIN_MS, type SettleOutcome, type Shipper, type ShipperParts } from "./shipper.ts";

export const HEAP_MB_MAX = 512; // of the thread: beyond it the thread ends and is started again; the gateway goes on
export const SETTLES_WAITING_MAX = 1_024; // beyond it a settlement is answered `behind` at once

const POSTGRES_ENTRY = new URL("./shipper-thread-main.ts", import.meta.url);

export type ShipperThreadOptions = ShipperParts & {
  /** What the entry connects to: the database's URL. */
  readonly ledger: string;
  readonly on_shipped: (rows: ShippedRows) => void;
  readonly entry?: URL;
};

/** Rejects when the first thread cannot begin: the journal cannot be read. */
export async function startShipperThread(options: ShipperThreadOptions): Promise<Shipper> {
  const thread = new ShipperThread(options);
  await thread.begin();
  return thread;
}

class ShipperThread implements Shipper {
  readonly #options: ShipperThreadOptions;
  readonly #asked = new Map<number, (outcome: SettleOutcome) => void>();
  #asks = 0;
  #worker: Worker | null = null;
  #serving = false;
  #released: Extract<ToShipper, { type: "release" }> | null = null;
  #watermark: Nanos | null = null;
  #backoff_ms = SHIP_BACKOFF_MIN_MS;
  #restart: NodeJS.Timeout | null = null;
  #superseded: string | null = null;
  #closing: PromiseWithResolvers<void> | null = null;

  constructor(options: ShipperThreadOptions) {
    this.#options = options;
  }

  begin(): Promise<void> {
    const ready = Promise.withResolvers<void>();
    const { dir, cell, epoch, journal, ledger, entry = POSTGRES_ENTRY } = this.#options;
    const start: ThreadStart = { dir, cell, epoch, end: journal.end(), ledger };
    const worker = new Worker(entry, { workerData: start, name: "shipper", resourceLimits: { maxOldGenerationSizeMb: HEAP_MB_MAX } });
    let reason = "it ended unasked";
    this.#worker = worker;
    worker.on("message", (message: FromShipper) => {
      if (message.type === "ready") ready.resolve();
      this.#hear(message);
    });
    worker.on("error", (error) => (reason = error instanceof Error ? error.message : String(error)));
    worker.on("exit", () => {
      ready.reject(new Error(`the shipper cannot start: ${reason}`));
      this.#ended(reason);
    });
    return ready.promise;
  }

  release(position: Extract<ToShipper, { type: "release" }>["position"], watermark: Nanos): void {
    this.#released = { type: "release", position, watermark };
    this.#say(this.#released);
  }

  settle(): Promise<SettleOutcome> {
    if (this.#superseded !== null) return Promise.resolve(this.#behind(this.#superseded));
    if (!this.#serving) return Promise.resolve(this.#behind("the shipper is being started again"));
    if (this.#asked.size >= SETTLES_WAITING_MAX) return Promise.resolve(this.#behind("too many settlements wait"));
    const ask = ++this.#asks;
    return new Promise((resolve) => {
      this.#asked.set(ask, resolve);
      this.#say({ type: "settle", ask });
    });
  }

  async close(): Promise<void> {
    if (this.#restart !== null) clearTimeout(this.#restart);
    if (this.#worker === null) return;
    this.#closing ??= Promise.withResolvers<void>();
    this.#post({ type: "close" });
    await this.#closing.promise;
  }

  #say(message: ToShipper): void {
    if (this.#serving) this.#post(message);
  }

  #post(message: ToShipper): void {
    this.#worker?.postMessage(message);
  }

  #behind(reason: string): SettleOutcome {
    return { type: "behind", watermark: this.#watermark, reason };
  }

  #hear(message: FromShipper): void {
    switch (message.type) {
      case "ready":
        this.#serving = true;
        if (this.#released !== null) this.#say(this.#released);
        return;
      case "settled":
        return this.#answer(message.ask, message.outcome);
      case "broken":
        return this.#answer(message.ask, this.#behind(message.reason));
      case "anomaly":
        return this.#options.on_anomaly(message.detail);
      case "superseded":
        this.#superseded = message.reason;
        return this.#options.on_superseded(message.reason);
      case "shipped":
        this.#backoff_ms = SHIP_BACKOFF_MIN_MS;
        this.#watermark = message.watermark;
        return this.#options.on_shipped(message);
    }
  }

  #answer(ask: number, outcome: SettleOutcome): void {
    this.#asked.get(ask)?.(outcome);
    this.#asked.delete(ask);
  }

  #ended(reason: string): void {
    const served = this.#serving;
    this.#worker = null;
    this.#serving = false;
    for (const ask of this.#asked.keys()) this.#answer(ask, this.#behind(reason));
    if (this.#closing !== null) return this.#closing.resolve();
    if (this.#superseded !== null) return;
    // One that never served was being started: begin() tells whoever waits; if it was a restart, the next one is due.
    if (!served && this.#restart === null) return;
    this.#options.on_anomaly(`the shipper's thread ended and is started again: ${reason}`);
    this.#restart = setTimeout(() => void this.begin().catch(() => undefined), this.#backoff_ms);
    this.#restart.unref();
    this.#backoff_ms = Math.min(SHIP_BACKOFF_MAX_MS, this.#backoff_ms * 2);
  }
}
