/**
 * Is the cell's watermark in the ledger ours? Then it is one of our own cuts, to the nanosecond. If it is not, another gateway metered this cell
 * meanwhile, or our journal is gone: this journal begins anew at the watermark. So it does where it took over there before, but the ledger has
 * heard nothing of that: others may have come in between unseen.
 */
import type { CellId } from "../../schema/core/ids.ts";
import { nanos } from "../../schema/core/time.ts";
import { isUntold, lastInstantOf, takenOver, type Standing } from "../policy/metering/takeover.ts";
import type { Journal } from "./journal/journal.ts";
import { beginningOf } from "./journal/segments.ts";
import { loadShipped, saveShipped } from "./journal/shipped.ts";

export type TakeoverParts = {
  readonly dir: string;
  readonly cell: CellId;
  readonly standing: Standing;
  readonly on_anomaly: (detail: string) => void;
};

/** Before anything is recorded, and before the shipper starts. */
export async function beginAtStanding(journal: Journal, { dir, cell, standing, on_anomaly }: TakeoverParts): Promise<void> {
  const { watermark } = standing;
  const shipped = await loadShipped(dir, cell);
  if (shipped?.watermark === watermark && !isUntold(shipped.state)) return;
  const from = shipped?.position ?? beginningOf(await journal.first());
  const before = journal.fold.checkpoint();
  for await (const { record } of journal.read(from, journal.end())) if (record.type === "cut" && record.t === watermark) return;
  if (before.last_t !== null)
    on_anomaly("another gateway metered this cell meanwhile: what this journal had not shipped stays unmetered here");
  const state = takenOver(cell, standing, before);
  const position = await journal.beginAnew(state, nanos(lastInstantOf(standing)));
  await saveShipped(dir, cell, { position, watermark: nanos(watermark), state });
}
