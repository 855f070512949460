/**
 * Who may command this node (I13). Each cell's highest epoch is remembered for good, on disk before it is acted on, so that
 * neither a restart of the agent nor another cell's turn lets an older epoch in again.
 */
import { readFileSync } from "node:fs";
import { z } from "zod";
import { writeAtomically } from "./durable.ts";
import { CELLS_REMEMBERED_MAX } from "./limits.ts";
import type { AgentFailure, Commander } from "./wire.ts";
import { leaseMs } from "./wire.ts";

const stored = z.object({
  holder: z.object({ cell: z.string(), lease_ms: leaseMs }).nullable(),
  epochs: z.array(z.object({ cell: z.string(), epoch: z.int() })),
});

export class Fence {
  readonly #path: string;
  readonly #epochs = new Map<string, number>();
  #holder: { readonly cell: string; readonly lease_ms: number } | null = null;

  constructor(path: string) {
    this.#path = path;
    let text: string;
    try {
      text = readFileSync(path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
      throw error;
    }
    const { holder, epochs } = stored.parse(JSON.parse(text));
    this.#holder = holder;
    for (const { cell, epoch } of epochs) this.#epochs.set(cell, epoch);
  }

  get holder(): (Commander & { readonly lease_ms: number }) | null {
    return this.#holder === null ? null : { ...this.#holder, epoch: this.#epochs.get(this.#holder.cell) ?? 0 };
  }

  /** For a claim. A node without a live lease has no holder, so whoever comes may take it. */
  take(by: Commander, lease_ms: number): AgentFailure | null {
    if (this.#holder !== null && this.#holder.cell !== by.cell) return foreign(this.#holder.cell);
    const stale = this.#stale(by);
    if (stale !== null) return stale;
    if (!this.#epochs.has(by.cell) && this.#epochs.size >= CELLS_REMEMBERED_MAX)
      return { code: "node_claimed", detail: `${CELLS_REMEMBERED_MAX} cells have held this node; it takes no further one` };
    this.#store({ cell: by.cell, lease_ms }, by);
    return null;
  }

  /** For any other command: only the holder's, of its epoch or a newer one, which it then is. */
  pass(by: Commander): AgentFailure | null {
    const stale = this.#stale(by);
    if (stale !== null) return stale;
    if (this.#holder === null) return { code: "not_claimed", detail: "claim the node first" };
    if (this.#holder.cell !== by.cell) return foreign(this.#holder.cell);
    this.#store(this.#holder, by);
    return null;
  }

  clear(): void {
    if (this.#holder !== null) this.#store(null, null);
  }

  #stale(by: Commander): AgentFailure | null {
    const current_epoch = this.#epochs.get(by.cell) ?? 0;
    if (by.epoch >= current_epoch) return null;
    return { code: "stale_epoch", detail: `epoch ${by.epoch} commands nothing; the current epoch is ${current_epoch}`, current_epoch };
  }

  #store(holder: { readonly cell: string; readonly lease_ms: number } | null, by: Commander | null): void {
    const same_holder = holder?.cell === this.#holder?.cell && holder?.lease_ms === this.#holder?.lease_ms;
    if (same_holder && (by === null || this.#epochs.get(by.cell) === by.epoch)) return;
    const epochs = new Map(this.#epochs);
    if (by !== null) epochs.set(by.cell, by.epoch);
    writeAtomically(this.#path, JSON.stringify({ holder, epochs: [...epochs].map(([cell, epoch]) => ({ cell, epoch })) }));
    this.#holder = holder;
    if (by !== null) this.#epochs.set(by.cell, by.epoch);
  }
}

const foreign = (cell: string): AgentFailure => ({ code: "node_claimed", detail: `cell ${cell} holds this node by a live lease` });
