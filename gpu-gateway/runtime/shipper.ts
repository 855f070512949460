/**
 * The shipper: brings the journal's rows to the ledger, at least once, and never one that is not on disk here: a row that was shipped and
 * then lost in a crash would come again in another form.
 *
 * It reads the journal, not memory: a fold of its own goes from the shipped position to the released one, so that a restart,
 * an outage of the ledger and ordinary days are one path, and what it holds is one shipment. `idle → shipping → idle`, or
 * `→ waiting` when the ledger is unavailable, with the same shipment in hand, until a backoff or a `settle()` ends it, or
 * `→ superseded` for good: another has the cell under a newer epoch, and meters it from where the ledger stood then (I13).
 *
 * The position is saved after the ledger answered `stored`. Ids are derived, so that what is sent twice is counted as a repeat (I6).
 * A shipment ends at a record; its watermark is the last cut that it, or one before it, contains whole.
 */
import type { CellId } from "../../schema/core/ids.ts";
import { nanos, type Nanos } from "../../schema/core/time.ts";
import type { UsageEvent } from "../../schema/core/wire/usage.ts";
import { createFold, type Fold } from "../policy/metering/fold.ts";
import { isUntold } from "../policy/metering/takeover.ts";
import type { CallRow, Ledger, Shipment } from "../ports/ledger.ts";
import type { Provision } from "../ports/provider.ts";
import type { JournalReader } from "./journal/reader.ts";
import { beginningOf, readHead, type Position } from "./journal/segments.ts";
import { loadShipped, saveShipped, type Shipped } from "./journal/shipped.ts";

export const SHIPMENT_ROWS_MAX = 5_000; // a shipment is closed at the record that reaches it; a new owner's first one at its first cut (CALLS_PER_CUT_MAX)
export const SHIP_BACKOFF_MIN_MS = 250;
export const SHIP_BACKOFF_MAX_MS = 30_000; // between attempts while the ledger is unavailable

/** What any shipper is given by the meter, whichever thread it runs in. */
export type ShipperParts = {
  readonly dir: string;
  readonly cell: CellId;
  /** Of the lease under which this gateway commands the cell, whichever boot wrote the journal. */
  readonly epoch: number;
  readonly journal: JournalReader & { /** The end of what is on disk. */ end(): Position };
  readonly on_anomaly: (detail: string) => void;
  /** Nothing more is shipped: command no more. Called once. */
  readonly on_superseded: (reason: string) => void;
};
export type ShipperOptions = ShipperParts & { readonly ledger: Ledger; readonly shipment_rows_max?: number };

export type SettleOutcome =
  /** The ledger holds everything of this cell before `watermark`. */
  | { readonly type: "settled"; readonly watermark: Nanos }
  /** It does not: `watermark` is where the ledger stands (null: nowhere yet). Shipping goes on by itself. */
  | { readonly type: "behind"; readonly watermark: Nanos | null; readonly reason: string };

export interface Shipper {
  /** Everything up to `position` may go; `watermark` is its last cut that counts. */
  release(position: Position, watermark: Nanos): void;
  /** Ships all that was released, now. */
  settle(): Promise<SettleOutcome>;
  close(): Promise<void>;
}

type Release = { readonly position: Position; readonly watermark: Nanos };
type InHand = { readonly shipment: Shipment; readonly shipped: Shipped };
type Superseded = { readonly type: "superseded"; readonly reason: string };
type Attempt = { readonly type: "idle" } | { readonly type: "unavailable"; readonly reason: string } | Superseded;

export async function createShipper(options: ShipperOptions): Promise<Shipper> {
  const { dir, cell, epoch, journal, ledger, on_anomaly } = options;
  const rows_max = options.shipment_rows_max ?? SHIPMENT_ROWS_MAX;
  let shipped = await startingPoint();
  let fold: Fold = createFold(cell, shipped.state ?? undefined);
  let released: Release | null = null;
  let in_hand: InHand | null = null;
  let running: Promise<Attempt> | null = null;
  let backoff_ms = SHIP_BACKOFF_MIN_MS;
  let timer: NodeJS.Timeout | null = null;
  let closed = false;
  let superseded: Superseded | null = null;

  /** Where an earlier run stopped; else the first segment that counts. */
  async function startingPoint(): Promise<Shipped> {
    const saved = await loadShipped(dir, cell);
    const first = await journal.first();
    if (saved && saved.position.seq <= journal.end().seq && saved.position.segment >= first) return saved;
    if (saved) on_anomaly(`the journal does not contain what was shipped up to line ${saved.position.seq}: all of it is shipped again`);
    const { head } = await readHead(dir, first, cell);
    return { position: beginningOf(first), watermark: null, state: head.state };
  }

  function ahead(): Release | null {
    return released && (in_hand || shipped.position.seq < released.position.seq || (shipped.watermark ?? -1n) < released.watermark)
      ? released
      : null;
  }

  /** One at a time; a caller that comes while it runs shares its end. */
  function run(): Promise<Attempt> {
    if (timer) clearTimeout(timer);
    timer = null;
    running ??= shipAll()
      .catch((error: unknown): Attempt => {
        // A corrupt journal, a ledger that refuses a row: not repaired by repeating it soon, and never skipped.
        const reason = error instanceof Error ? error.message : String(error);
        on_anomaly(`shipping stopped: ${reason}`);
        if (!in_hand) fold = createFold(cell, shipped.state ?? undefined);
        return { type: "unavailable", reason };
      })
      .then((attempt) => {
        running = null;
        if (attempt.type === "unavailable") {
          if (!closed) waitBeforeNext();
          return attempt;
        }
        backoff_ms = SHIP_BACKOFF_MIN_MS;
        return !superseded && ahead() ? run() : attempt;
      });
    return running;
  }

  function waitBeforeNext(): void {
    timer = setTimeout(() => void run(), backoff_ms);
    timer.unref();
    backoff_ms = Math.min(SHIP_BACKOFF_MAX_MS, backoff_ms * 2);
  }

  async function shipAll(): Promise<Attempt> {
    if (superseded) return superseded;
    for (let target = ahead(); target; target = ahead()) {
      in_hand ??= await gather(target);
      const outcome = await ledger.ship(in_hand.shipment);
      if (outcome.type === "unavailable") return outcome;
      if (outcome.type === "superseded") return stop(outcome.epoch);
      if (outcome.conflicts > 0) on_anomaly(`the ledger has ${outcome.conflicts} rows with the same ids and other bodies`);
      shipped = in_hand.shipped;
      in_hand = null;
      await saveShipped(dir, cell, shipped);
      await journal.prune(shipped.position);
    }
    return { type: "idle" };
  }

  function stop(newer: number): Superseded {
    const reason = `another gateway took cell ${cell} over under epoch ${newer}; this one has ${epoch}: what it had not shipped stays out of the books`;
    superseded = { type: "superseded", reason };
    in_hand = null;
    options.on_superseded(reason);
    return superseded;
  }

  /** Folds on from the shipped position until the shipment is full or all that was released is in it. */
  async function gather(target: Release): Promise<InHand> {
    const usage: UsageEvent[] = [];
    const calls: CallRow[] = [];
    const provisions: Provision[] = [];
    let { position, watermark } = shipped;
    let full = false;
    // Who is new to a cell moves its watermark with the first rows: whoever comes next sees by it that these are another's.
    const untold = shipped.watermark === null || isUntold(shipped.state);
    for await (const { record, end } of journal.read(shipped.position, target.position)) {
      position = end;
      for (const output of fold.apply(record)) {
        if (output.type === "usage") usage.push(output.event);
        else if (output.type === "call") calls.push(output.row);
        else if (output.type === "provision") provisions.push(output.provision);
        else if (output.type === "watermark" && output.t <= target.watermark) watermark = output.t;
      }
      full = usage.length + calls.length >= rows_max && (!untold || watermark !== shipped.watermark);
      if (full) break;
    }
    // All that was released is in it. A segment's head is no record: the position may lie past the last one.
    if (!full || position.seq >= target.position.seq) ({ position, watermark } = target);
    return {
      shipment: { cell, epoch, usage, calls, provisions, watermark: watermark ?? nanos(0n) },
      shipped: { position, watermark, state: fold.checkpoint() },
    };
  }

  return {
    release(position, watermark) {
      released = { position, watermark };
      if (!timer) void run();
    },
    async settle() {
      const goal = released;
      if (running) await running;
      const attempt = await run();
      if (attempt.type !== "idle") return { type: "behind", watermark: shipped.watermark, reason: attempt.reason };
      if (!goal || shipped.watermark === null || shipped.watermark < goal.watermark) {
        return { type: "behind", watermark: shipped.watermark, reason: "there was no cut yet" };
      }
      return { type: "settled", watermark: shipped.watermark };
    },
    async close() {
      closed = true;
      if (timer) clearTimeout(timer);
      await running;
      if (timer) clearTimeout(timer);
    },
  };
}
