/** How far the ledger has the journal: a position, and the fold's state there. Written only after the ledger answered `stored`. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { CellId } from "../../../schema/core/ids.ts";
import type { Nanos } from "../../../schema/core/time.ts";
import type { FoldState } from "../../policy/metering/checkpoint.ts";
import { replaceFile } from "./durable-files.ts";
import type { Position } from "./segments.ts";

const FILE = "shipped.json";
const FORMAT = 1;

/** `state` null: the fold has seen nothing. */
export type Shipped = { readonly position: Position; readonly watermark: Nanos | null; readonly state: FoldState | null };

export async function saveShipped(dir: string, cell: CellId, { position, watermark, state }: Shipped): Promise<void> {
  const text = JSON.stringify({ format: FORMAT, cell, position, watermark: watermark === null ? null : watermark.toString(), state });
  await replaceFile(join(dir, FILE), text);
}

/** Null: nothing was ever shipped, or the file is not ours to read; shipping again from the beginning is always right (I6). */
export async function loadShipped(dir: string, cell: CellId): Promise<Shipped | null> {
  let text: string;
  try {
    text = await readFile(join(dir, FILE), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
  const saved = JSON.parse(text) as { format: number; cell: string; position: Position; watermark: string | null; state: FoldState | null };
  if (saved.format !== FORMAT || saved.cell !== cell) return null;
  return { ...saved, watermark: saved.watermark === null ? null : (BigInt(saved.watermark) as Nanos) };
}
