/** How far the ledger has the journal: a position, and the fold's state there. Written only after the ledger answered `stored`. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import type { CellId } from "../../../schema/core/ids.ts";
import type { Nanos } from "../../../schema/core/time.ts";
import type { FoldState } from "../../policy/metering/checkpoint.ts";
import { replaceFile } from "./durable-files.ts";
import type { Position } from "./segments.ts";

const FILE = "shipped.json";
const FORMAT = 1;

const whole = z.int().min(0);
const shippedFile = z.object({
  format: z.literal(FORMAT),
  cell: z.string(),
  position: z.object({ segment: whole, offset: whole, seq: whole }),
  watermark: z.string().regex(/^\d+$/).nullable(),
  state: z.looseObject({}).nullable(),
});

/** `state` null: the fold has seen nothing. */
export type Shipped = { readonly position: Position; readonly watermark: Nanos | null; readonly state: FoldState | null };

export async function saveShipped(dir: string, cell: CellId, { position, watermark, state }: Shipped): Promise<void> {
  const text = JSON.stringify({ format: FORMAT, cell, position, watermark: watermark === null ? null : watermark.toString(), state });
  await replaceFile(join(dir, FILE), text);
}

/** Null: nothing was ever shipped, or the file cannot be understood; shipping again from the beginning is always right (I6). */
export async function loadShipped(dir: string, cell: CellId): Promise<Shipped | null> {
  let text: string;
  try {
    text = await readFile(join(dir, FILE), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
  const saved = shippedFile.safeParse(parsedOrNull(text));
  if (!saved.success || saved.data.cell !== cell) return null;
  const { position, watermark, state } = saved.data;
  return { position, watermark: watermark === null ? null : (BigInt(watermark) as Nanos), state: state as FoldState | null };
}

function parsedOrNull(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
