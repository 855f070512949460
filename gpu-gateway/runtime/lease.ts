/**
 * Keeps this gateway's right to command: the cell's lease in Postgres and, by it, the nodes' leases (D9, I13).
 *
 *   held ──renewed in time──▶ held
 *     └── lost | taken by a newer epoch | not renewed before it runs out less skew ──▶ fenced (for good)
 *
 * A lease counts from before its renewal was asked for, on the monotonic clock. A fenced gateway does not come back: the process
 * ends and its successor acquires under a new epoch, so that nothing decided meanwhile can still be commanded.
 */
import { Fenced } from "../ports/provider.ts";
import { LEASE_RENEWALS_PER_TERM, LEASE_SKEW_MS } from "./limits.ts";

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
  #end: NodeJS.Timeout;
  readonly #renewing = { cell: false, nodes: false };
  #over = false;

  constructor(options: LeaseKeeperOptions) {
    this.#options = options;
    this.#end = this.#endTimer(options.acquired_ms);
    this.#renewals = setInterval(() => this.#renew(), options.lease_ms / LEASE_RENEWALS_PER_TERM);
  }

  stop(): void {
    this.#over = true;
    clearTimeout(this.#end);
    clearInterval(this.#renewals);
  }

  /** The two leases are renewed side by side: a node that is slow to answer must not cost the cell. */
  #renew(): void {
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
      this.#end = this.#endTimer(asked_ms);
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

  #endTimer(asked_ms: number): NodeJS.Timeout {
    const left_ms = asked_ms + this.#options.lease_ms - LEASE_SKEW_MS - performance.now();
    return setTimeout(() => this.#fence("the cell's lease could not be renewed in time"), Math.max(0, left_ms));
  }

  #fence(reason: string): void {
    if (this.#over) return;
    this.stop();
    this.#options.on_fenced(reason);
  }
}
