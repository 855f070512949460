/**
 * The metering records of a run, as runtime/meter.ts would journal them: stamped on one line of UTC nanoseconds that neither goes back
 * nor repeats, with the beats of silence and the cuts that the live meter makes of itself. Nobody asks for records: none is made.
 */
import { asId, type CallId } from "../../schema/core/ids.ts";
import { minuteOf, type Nanos, nanos } from "../../schema/core/time.ts";
import type { MeteringRecord } from "../policy/metering/records.ts";
import { ALIVE_MS, USAGE_CUT_MS } from "./limits.ts";

export const CELL = asId<"cell">("cell_virtual");
/** Virtual time 0. */
export const ANCHOR_NS = 1_795_000_000_000_000_000n;

const USAGE_CUT_NS = BigInt(USAGE_CUT_MS) * 1_000_000n;
/** The meter looks at its clock so often; a silence as long is broken. */
export const METER_TICK_US = (ALIVE_MS / 2) * 1_000;
const ALIVE_NS = BigInt(METER_TICK_US) * 1_000n;

type WithoutT<R> = R extends unknown ? Omit<R, "t"> : never;
export type Recordable = WithoutT<MeteringRecord>;

export class Records {
  readonly #observe: ((record: MeteringRecord) => void) | null;
  readonly #now: () => number;
  #last: bigint = ANCHOR_NS - 1n;
  #last_cut: bigint = ANCHOR_NS;
  #calls_ended = false;
  /** Accepted and not ended: what the journal of a gateway that dies leaves open. Bounded by the calls in flight. */
  readonly #open = new Set<CallId>();

  constructor(observe: ((record: MeteringRecord) => void) | null, now: () => number) {
    this.#observe = observe;
    this.#now = now;
  }

  get wanted(): boolean {
    return this.#observe !== null;
  }

  open(): readonly CallId[] {
    return [...this.#open];
  }

  record(input: Recordable): void {
    if (this.#observe === null) return;
    if (input.type === "call_accepted") this.#open.add(input.call);
    else if (input.type === "call_ended") {
      this.#open.delete(input.call);
      this.#calls_ended = true;
    }
    this.#last = this.#next();
    this.#observe({ ...input, t: nanos(this.#last) });
  }

  cut(): void {
    this.record({ type: "cut" });
    this.#last_cut = this.#last;
    this.#calls_ended = false;
  }

  /** Each METER_TICK_US. */
  tick(): void {
    const now = this.#next();
    const due = minuteOf(nanos(now)) > minuteOf(nanos(this.#last_cut)) || (this.#calls_ended && now - this.#last_cut >= USAGE_CUT_NS);
    if (due) this.cut();
    else if (now - this.#last >= ALIVE_NS) this.record({ type: "alive" });
  }

  /** The instant as the nodes state it. */
  at(instant_us: number): Nanos {
    return nanos(ANCHOR_NS + BigInt(instant_us) * 1_000n);
  }

  #next(): bigint {
    const next = this.at(this.#now());
    return next > this.#last ? next : this.#last + 1n;
  }
}
