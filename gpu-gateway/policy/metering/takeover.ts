/**
 * Where a new owner of a cell begins: at the watermark that its former owner reached in the ledger. All before it is metered and stays so; a
 * journal that knew of it is lost, or on another machine. What of an own earlier time was not shipped is behind the watermark, or past it
 * and counted as `lost` by whoever came in between: it is not metered again.
 */
import type { CellId, NodeId } from "../../../schema/core/ids.ts";
import { FOLD_STATE_FORMAT, type FoldState } from "./checkpoint.ts";

/** What the ledger holds of a cell. */
export type Standing = {
  readonly watermark: bigint;
  /** Those that were open at the watermark, or are charged past it. */
  readonly provisions: readonly {
    readonly provision_id: string;
    readonly node: NodeId;
    readonly gpus: number;
    readonly provisioned_at: bigint;
    readonly released_at: bigint | null;
  }[];
  /** Over and metered to their end, the latest last: a node agent goes on stating them. */
  readonly released: readonly string[];
  /** What rows past the watermark charge: a shipment may end between two cuts. By the UTC minute in which they lie. */
  readonly metered_past: readonly {
    readonly provision_id: string;
    readonly minute: bigint;
    /** Where the last of them ends. */
    readonly charged_to: bigint;
    readonly quantity: bigint;
  }[];
};

/** No row of the former owner's reaches past this; the new owner's line of time begins after it, whatever its own clock says. */
export function lastInstantOf({ watermark, metered_past }: Standing): bigint {
  return metered_past.reduce((last, { charged_to }) => (charged_to > last ? charged_to : last), watermark);
}

/** A state from which nothing was folded yet: its owner has shown nobody that it took over. */
export const isUntold = (state: FoldState | null): boolean => state?.unseen_until !== undefined && state.unseen_until === state.last_t;

/** `before`: the own journal's state, if it has one; its calls that never ended are still to be ended. */
export function takenOver(cell: CellId, { watermark, provisions, released, metered_past }: Standing, before: FoldState | null): FoldState {
  const open_calls = (before?.calls ?? []).slice(0, before?.calls_by_id ?? 0).filter((call) => !call.ended);
  const past = new Map<string, bigint>();
  for (const { provision_id, quantity } of metered_past) past.set(provision_id, (past.get(provision_id) ?? 0n) + quantity);
  return {
    format: FOLD_STATE_FORMAT,
    cell,
    last_t: watermark.toString(),
    cuts: [watermark.toString()],
    released: [...released],
    provisions: provisions.map(({ provision_id, node, gpus, provisioned_at, released_at }) => {
      const since = provisioned_at > watermark ? provisioned_at : watermark;
      const metered_to = released_at !== null && released_at < since ? released_at : since;
      const emitted = (metered_to - provisioned_at) * BigInt(gpus) + (past.get(provision_id) ?? 0n);
      return {
        provision_id,
        node,
        gpus,
        provisioned_at: provisioned_at.toString(),
        released_at: released_at === null ? null : released_at.toString(),
        emitted: emitted.toString(),
        pool: { gpus: gpus.toString(), since: since.toString(), use: "lost", legs_pay: false, legs: [], rows: [] },
        gpu_owner: [],
      };
    }),
    groups: [],
    calls: open_calls.map((call) => ({ ...call, legs: 0 })),
    calls_by_id: open_calls.length,
    legs: [],
    unseen_until: watermark.toString(),
    metered_past: metered_past.map(({ provision_id, minute, charged_to, quantity }) => ({
      provision_id,
      from: (minute > watermark ? minute : watermark).toString(),
      to: charged_to.toString(),
      quantity: quantity.toString(),
    })),
  };
}
