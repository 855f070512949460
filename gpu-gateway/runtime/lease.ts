/**
 * Keeps this gateway's right to command: the cell's lease in Postgres and, by it, the nodes' leases (D9, I13).
 *
 *   held ──renewed in time──▶ held
 *     └── lost | taken by a newer epoch | not renewed before it runs out less skew ──▶ fenced (for good)
 *
 * A lease counts from before its renewal was asked for, on the monotonic clock. A process that stood still hears its timers late and in any
 * order: so whoever is about to command asks the clock, too (`holds`). A fenced gateway does not come back: the process
 * ends and its successor acquires under a new epoch, so that nothing decided meanwhile can still be commanded.
 */
import { Fenced } from "../ports/provider.ts";
import { LEASE_RENEWALS_PER_TERM, LEASE_SKEW_MS } from "./limits.ts";

const NOT_RENEWED = "the cell's lease could not be renewed in time";

export interface LeaseStore {
  renew(): Promise<"renewed" | "lost">;
}

export type LeaseKeeperOptions = {
  readonly store: LeaseStore;
  readonly lease_ms: number;
  /** When the lease in hand was asked for (performance.now). */
  readonly acquired_ms: number;
  /** Renews the nodes' leases; rejects with Fenced when a newer epoch commands them. */
  readonly renewNodes: () => Promise<unknown>;
  readonly on_fenced: (reason: string) => void;
  readonly log: (line: string, fields?: Readonly<Record<string, unknown>>) => void;
};

export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions;
  readonly #renewals: NodeJS.Timeout;
  #end_ms: number;
  #end: NodeJS.Timeout;
  readonly #renewing = { cell: false, nodes: false };
  #over = false;

  constructor(options: LeaseKeeperOptions) {
    this.#options = options;
    this.#end_ms = this.#endOf(options.acquired_ms);
    this.#end = this.#endTimer();
    this.#renewals = setInterval(() => this.#renew(), options.lease_ms / LEASE_RENEWALS_PER_TERM);
  }

  get over(): boolean {
    return this.#over || performance.now() >= this.#end_ms;
  }

  /** May anything be commanded now? When the lease is over, this is what fences. */
  holds(): boolean {
    if (this.over) this.#fence(NOT_RENEWED);
    return !this.#over;
  }

  stop(): void {
    this.#over = true;
    clearTimeout(this.#end);
    clearInterval(this.#renewals);
  }

  /** The two leases are renewed side by side: a node that is slow to answer must not cost the cell. */
  #renew(): void {
    if (!this.holds()) return;
    if (!this.#renewing.cell) void this.#renewCell();
    if (!this.#renewing.nodes) void this.#renewNodes();
  }

  async #renewCell(): Promise<void> {
    this.#renewing.cell = true;
    const asked_ms = performance.now();
    try {
      const outcome = await this.#options.store.renew();
      if (outcome === "lost") return this.#fence("the cell's lease is another's");
      if (this.#over) return;
      clearTimeout(this.#end);
      this.#end_ms = this.#endOf(asked_ms);
      this.#end = this.#endTimer();
    } catch (error) {
      // The end timer decides how long this may go on.
      this.#options.log("cell lease not renewed", { error: String(error) });
    } finally {
      this.#renewing.cell = false;
    }
  }

  async #renewNodes(): Promise<void> {
    this.#renewing.nodes = true;
    try {
      await this.#options.renewNodes();
    } catch (error) {
      if (error instanceof Fenced) this.#fence(error.message);
      else this.#options.log("nodes not renewed", { error: String(error) });
    } finally {
      this.#renewing.nodes = false;
    }
  }

  #endOf(asked_ms: number): number {
    return asked_ms + this.#options.lease_ms - LEASE_SKEW_MS;
  }

  #endTimer(): NodeJS.Timeout {
    return setTimeout(() => this.#fence(NOT_RENEWED), Math.max(0, this.#end_ms - performance.now()));
  }

  #fence(reason: string): void {
    if (this.#over) return;
    this.stop();
    this.#options.on_fenced(reason);
  }
}
