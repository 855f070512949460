/** What the gateway's loop and the shipper's thread say to each other. Records never pass: both know the journal's files. */
import type { CellId } from "../../schema/core/ids.ts";
import type { Nanos } from "../../schema/core/time.ts";
import type { Position } from "./journal/segments.ts";
import type { SettleOutcome } from "./shipper.ts";

/** Given to the thread as it starts. `end`: where the journal ended on disk then. */
export type ThreadStart = {
  readonly dir: string;
  readonly cell: CellId;
  readonly epoch: number;
  readonly end: Position;
  readonly ledger: string;
};

export type ToShipper =
  | { readonly type: "release"; readonly position: Position; readonly watermark: Nanos }
  | { readonly type: "settle"; readonly ask: number }
  /** What is under way is brought to its end; then the thread ends. */
  | { readonly type: "close" };

export type FromShipper =
  | { readonly type: "ready" }
  | { readonly type: "settled"; readonly ask: number; readonly outcome: SettleOutcome }
  /** A settlement broke on something that is no outcome. */
  | { readonly type: "broken"; readonly ask: number; readonly reason: string }
  | { readonly type: "anomaly"; readonly detail: string }
  /** The thread ships no more. */
  | { readonly type: "superseded"; readonly reason: string }
  | ({ readonly type: "shipped" } & ShippedRows);

/** What the ledger has stored: a row is in the books then. */
export type ShippedRows = {
  readonly watermark: Nanos;
  /** GPU-nanoseconds by cost centre, `calls` for those that calls pay; corrections left out. */
  readonly gpu_ns: readonly (readonly [string, number])[];
};
