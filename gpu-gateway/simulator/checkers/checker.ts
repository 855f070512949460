/**
 * A checker holds one invariant against a run. It watches what happens, keeps books of its own that share nothing with the code it
 * checks, and is asked once more at the end. It says one of three things: the invariant was broken (when, and in which words), it
 * held in so many places that were looked at, or nothing in this run could have shown it. The last is counted, never taken for a pass.
 */
import type { Micros } from "../../../schema/core/time.ts";
import type { Transfer, TransferOutcome } from "../../../schema/core/ledger/transfer.ts";
import type { MeteringRecord } from "../../policy/metering/records.ts";
import type { UsageEvent } from "../../../schema/core/wire/usage.ts";
import type { Refolded } from "../sim/meter.ts";
import type { SessionFact } from "../sessions/facts.ts";
import type { Observer } from "../types.ts";

export const INVARIANTS = ["I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I12"] as const;
export type Invariant = (typeof INVARIANTS)[number];

export type Verdict =
  | { readonly type: "held"; readonly looked: number }
  | { readonly type: "broken"; readonly at: Micros; readonly words: string }
  | { readonly type: "unchecked"; readonly why: string };

/** What a whole run tells: the cluster's Observer, and the parts around it: sessions, money, books, the gateway's starts. */
export interface RunObserver extends Observer {
  session?(fact: SessionFact, now: Micros): void;
  /** The ledger's word on a transfer. */
  money?(transfer: Transfer, word: TransferOutcome, now: Micros): void;
  /** A record of metering is durable in the journal, stamped with the gateway's own line of time. */
  journalled?(record: MeteringRecord, now: Micros): void;
  /** At the end: the rows that a fold over the whole journal gives, and what it found wrong. */
  refolded?(refolded: Refolded, now: Micros): void;
  /** At the end: what the world itself says of a node: so many GPUs, for so long. */
  provisioned?(gpus: number, nanoseconds: bigint): void;
  /** A shipment of usage rows reached the ledger: whole, as it was sent, whether or not its sender heard so. */
  shipped?(rows: readonly UsageEvent[], now: Micros): void;
  /** A gateway started; epochs count from 1. Of an earlier one nothing comes any more. */
  gatewayStarted?(epoch: number, now: Micros): void;
  gatewayDied?(now: Micros): void;
}

export interface Checker extends RunObserver {
  readonly invariant: Invariant;
  /** Nothing more comes. */
  end(now: Micros): void;
  verdict(): Verdict;
}

/** The first breach is the one that counts: what follows may follow from it. */
export abstract class Books implements Checker {
  abstract readonly invariant: Invariant;
  #broken: { readonly at: Micros; readonly words: string } | null = null;
  #looked = 0;
  /** Why nothing was looked at, where that is so. */
  protected unchecked_because = "nothing in this run touched it";

  end(_now: Micros): void {}

  verdict(): Verdict {
    if (this.#broken !== null) return { type: "broken", ...this.#broken };
    return this.#looked === 0 ? { type: "unchecked", why: this.unchecked_because } : { type: "held", looked: this.#looked };
  }

  /** `words` is asked for only where it does not hold. */
  protected check(holds: boolean, at: Micros, words: () => string): void {
    this.#looked += 1;
    if (!holds && this.#broken === null) this.#broken = { at, words: words() };
  }

  protected get is_broken(): boolean {
    return this.#broken !== null;
  }
}
