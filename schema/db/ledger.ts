/**
 * The gateway's ledger in Postgres: implements the port in gpu-gateway/ports/ledger.ts, whose shapes are written out again here
 * because the schema knows no gateway (test/contract/ledger-port.test.ts holds the two together).
 *
 * A shipment is one transaction: its rows and the watermark that vouches for them appear together. Any shipment may be sent
 * again, whole or in other batches, in any order (I6). What fails is said, not retried: the shipper keeps its journal and decides.
 *
 * A shipment and an acquisition of its cell come one after the other (I13): either the successor finds the rows in the books, or they are refused.
 */
import type postgres from "postgres";
import type { UsageEvent } from "../core/wire/usage.ts";
import { holdEpoch } from "./queries/cells/hold-epoch.ts";
import { type StatedProvision, upsertProvisions } from "./queries/nodes/upsert-provisions.ts";
import { boundIdle } from "./queries/usage/bound-idle.ts";
import { type EndedCall, insertCalls } from "./queries/usage/insert-calls.ts";
import { USAGE_ROWS_PER_STATEMENT_MAX, insertUsage } from "./queries/usage/insert-usage.ts";
import { moveWatermark } from "./queries/usage/move-watermark.ts";
import { recordConflicts } from "./queries/usage/record-conflicts.ts";
import { inInsertOrder } from "./queries/usage/usage-row.ts";
import type { Db } from "./sql.ts";
import { unavailableReason } from "./unavailable.ts";

export type Shipment = {
  readonly cell: string;
  /** Under which the shipper's gateway commands the cell. */
  readonly epoch: number;
  readonly usage: readonly UsageEvent[];
  readonly calls: readonly EndedCall[];
  readonly provisions: readonly StatedProvision[];
  readonly watermark: bigint;
};
export type ShipOutcome =
  | { readonly type: "stored"; readonly inserted: number; readonly repeated: number; readonly conflicts: number }
  | { readonly type: "unavailable"; readonly reason: string }
  /** Nothing was stored, and nothing will be: the cell was acquired under this newer epoch. */
  | { readonly type: "superseded"; readonly epoch: number };
export type PostgresLedger = { ship(shipment: Shipment): Promise<ShipOutcome> };

/** A shipper that stands still in mid-shipment holds its locks no longer: who takes the cell over waits for them. */
export const SHIPMENT_IDLE_MS_MAX = 5_000;

/** Thrown, because what is returned from a transaction commits it. */
class Superseded extends Error {
  readonly epoch: number;
  constructor(epoch: number) {
    super(`epoch ${epoch}`);
    this.epoch = epoch;
  }
}

export function createPostgresLedger(sql: postgres.Sql): PostgresLedger {
  return {
    async ship(shipment) {
      try {
        return await sql.begin((tx) => store(tx, shipment));
      } catch (error) {
        if (error instanceof Superseded) return { type: "superseded", epoch: error.epoch };
        const reason = unavailableReason(error);
        if (reason === null) throw error;
        return { type: "unavailable", reason };
      }
    },
  };
}

async function store(sql: Db, shipment: Shipment): Promise<ShipOutcome> {
  await boundIdle(sql, SHIPMENT_IDLE_MS_MAX);
  if (shipment.provisions.length > 0) await upsertProvisions(sql, shipment.cell, shipment.provisions);
  const stored = await storeUsage(sql, shipment.usage);
  for (const calls of batches(shipment.calls)) await insertCalls(sql, shipment.cell, calls);
  const epoch = await holdEpoch(sql, shipment.cell);
  if (epoch !== null && epoch > shipment.epoch) throw new Superseded(epoch);
  await moveWatermark(sql, shipment.cell, shipment.watermark);
  return { type: "stored", ...stored };
}

/** Usage from any source (the edge ships its own through this). Inside a transaction, or every batch stands for itself. */
export async function storeUsage(
  sql: Db,
  usage: readonly UsageEvent[],
): Promise<{ inserted: number; repeated: number; conflicts: number }> {
  const sum = { inserted: 0, repeated: 0, conflicts: 0 };
  for (const batch of batches(inInsertOrder(usage))) {
    const { inserted } = await insertUsage(sql, batch);
    const { conflicts } = inserted === batch.length ? { conflicts: 0 } : await recordConflicts(sql, batch);
    sum.inserted += inserted;
    sum.conflicts += conflicts;
    sum.repeated += batch.length - inserted - conflicts;
  }
  return sum;
}

function batches<T>(items: readonly T[]): T[][] {
  const all: T[][] = [];
  for (let i = 0; i < items.length; i += USAGE_ROWS_PER_STATEMENT_MAX) all.push(items.slice(i, i + USAGE_ROWS_PER_STATEMENT_MAX));
  return all;
}
