/** Ledger: where usage goes. Idempotent by derived id; the journal can be replayed into it from any point. */
import type { UsageEvent } from "../../schema/core/wire/usage.ts";
import type { Nanos } from "../../schema/core/time.ts";
import type { Provision } from "./provider.ts";

export type CallRow = {
  readonly call_id: string;
  readonly tenant: string;
  readonly accepted_at: Nanos;
  readonly ended_at: Nanos;
  readonly outcome: "done" | "cancelled" | "shed" | "failed";
  readonly code: string | null;
  readonly tags: Readonly<Record<string, string | null>>;
  readonly tokens: { readonly prompt: number; readonly cached: number; readonly completion: number };
};

export type Shipment = {
  readonly cell: string;
  /** Under which the shipper's gateway commands the cell. */
  readonly epoch: number;
  readonly usage: readonly UsageEvent[];
  readonly calls: readonly CallRow[];
  readonly provisions: readonly Provision[];
  /** Everything of this cell before it is in `usage` of this or an earlier shipment. */
  readonly watermark: Nanos;
};
export type ShipOutcome =
  | { readonly type: "stored"; readonly inserted: number; readonly repeated: number; readonly conflicts: number }
  | { readonly type: "unavailable"; readonly reason: string }
  /** Nothing was stored, and nothing will be: the cell was acquired under this newer epoch. */
  | { readonly type: "superseded"; readonly epoch: number };

export interface Ledger {
  ship(shipment: Shipment): Promise<ShipOutcome>;
}
