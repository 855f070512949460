/**
 * The books of a run: what runtime/meter.ts and runtime/shipper.ts do with a disk and a database, here in virtual time. The line of time,
 * the fold and its checkpoint are those that serve live.
 *
 *   record ─▶ stamped on the line ─ journal_delay ─▶ durable ─▶ cut ─▶ folded into shipments ─▶ ledger
 *
 * The nodes' clocks are right; the gateway's wall clock may be set, and is read when a gateway starts. A gateway that dies loses the
 * records that are not durable, the shipment in hand and what it folded since it last saved; calls that the journal knows as open are ended
 * when the next one starts. A ledger that is out refuses, or stores and does not answer: then the same rows come again.
 */
import { failure } from "../../../schema/core/errors.ts";
import type { CallId, NodeId } from "../../../schema/core/ids.ts";
import { minuteOf, type Micros, type Nanos, nanos } from "../../../schema/core/time.ts";
import type { UsageEvent } from "../../../schema/core/wire/usage.ts";
import type { FoldState } from "../../policy/metering/checkpoint.ts";
import { createFold, type Fold } from "../../policy/metering/fold.ts";
import type { MeteringRecord } from "../../policy/metering/records.ts";
import { createTimeline, type Timeline } from "../../runtime/journal/line.ts";
import { ANCHOR_NS, CELL } from "../records.ts";

/** As in runtime/meter.ts: at most this long between cuts once a call has ended. */
const USAGE_CUT = 5_000_000_000n;

export type Refolded = { readonly rows: readonly UsageEvent[]; readonly anomalies: readonly string[] };

export type MeterParts = {
  readonly now: () => Micros;
  readonly journal_delay: Micros;
  readonly shipment_rows_max: number;
  /** A record is durable. */
  readonly journalled: (record: MeteringRecord) => void;
  readonly shipped: (rows: readonly UsageEvent[]) => void;
  /** Where bugs are planted: what the fold gives, what a shipment holds. */
  readonly folded: (row: UsageEvent) => UsageEvent;
  readonly sending: (rows: readonly UsageEvent[], shipment: number) => readonly UsageEvent[];
};

export class SimMeter {
  readonly #parts: MeterParts;
  readonly #journal: { readonly record: MeteringRecord; readonly written: Micros }[] = [];
  #durable = 0;
  /** Those of which `journalled` was told. */
  #told = 0;
  /** Calls accepted and not ended, by the journal. */
  #open = new Set<CallId>();
  #line: Timeline | null = null;
  #wall_step = 0n;
  #set_back = 0;
  #last_cut: Nanos | null = null;
  #call_ended = false;
  /** What the next gateway would find of the shipping: a position and the fold's state there, as it is written. */
  #saved: { readonly position: number; readonly state: string | null } = { position: 0, state: null };
  #fold: Fold = createFold(CELL);
  #folded = 0;
  #in_hand: readonly UsageEvent[] = [];
  #shipments = 0;
  #outage: { readonly until: Micros; readonly stored: boolean } | null = null;
  readonly #provisions = new Map<string, NodeId>();
  #released_at: Nanos | null = null;

  constructor(parts: MeterParts) {
    this.#parts = parts;
  }

  get shipped_all(): boolean {
    return this.#saved.position === this.#journal.length;
  }
  /** Rows that wait for the ledger (I8: bounded by what is journalled between two cuts, and by the outage). */
  get waiting(): number {
    return this.#in_hand.length;
  }
  get records(): number {
    return this.#journal.length;
  }

  /** What the world says, on the world's own line: here it is put on the gateway's. */
  record(said: MeteringRecord): void {
    if (said.type === "boot") return this.#boot(said.epoch);
    if (this.#line === null || said.type === "cut") return;
    const t = this.#line.now();
    // An earlier gateway's call, which was ended when this one started.
    if (said.type === "call_ended" && !this.#open.has(said.call)) return;
    if (said.type === "node_provisioned") this.#provisions.set(said.provision_id, said.node);
    else if (said.type === "node_released") this.#provisions.delete(said.provision_id);
    // A node's own instants (`at`) stay as they are: its clock is right.
    this.#write({ ...said, t });
    this.#call_ended ||= said.type === "call_ended";
  }

  /** By how much the clock was set back, in all. */
  get set_back(): number {
    return this.#set_back;
  }

  stepClock(by: Micros): void {
    if (by < 0) this.#set_back -= by;
    this.#wall_step += BigInt(by * 1_000);
  }
  ledgerOut(until: Micros, stored: boolean): void {
    this.#outage = { until, stored };
  }

  /** The gateway's process is gone. */
  died(): void {
    this.#harden();
    this.#journal.length = this.#durable;
    this.#open = this.#openCalls();
    this.#line = null;
    this.#in_hand = [];
    const { state } = this.#saved;
    this.#fold = createFold(CELL, state === null ? undefined : (JSON.parse(state) as FoldState));
    this.#folded = this.#saved.position;
  }

  /** Called often: what is due of hardening, cutting and shipping. */
  tick(): void {
    if (this.#line === null) return;
    this.#harden();
    const now = this.#line.now();
    const last = this.#last_cut;
    const due = last === null || minuteOf(now) > minuteOf(last) || (this.#call_ended && now - last >= USAGE_CUT);
    if (due) this.#cut();
    else if (this.#in_hand.length > 0) this.#ship();
  }

  /**
   * The end: every node is given back, and the last row goes. Called again until it answers true: where the wall clock was set back, the line is
   * behind the nodes' clocks, and what they say of their release is awaited; and the ledger may be out.
   */
  settle(): boolean {
    if (this.#line === null) return false;
    if (this.#released_at === null) {
      this.#released_at = nanos(this.#true_now());
      for (const [provision_id, node] of this.#provisions)
        this.#write({ type: "node_released", t: this.#line.now(), node, at: this.#released_at, provision_id });
      this.#provisions.clear();
    }
    if (this.#line.now() < this.#released_at) return false;
    this.#cut();
    this.#durable = this.#journal.length;
    this.#harden();
    this.#ship();
    return this.shipped_all;
  }

  /** How long each node was ours, by its own clock. */
  get provisioned_ns(): bigint {
    return (this.#released_at ?? this.#true_now()) - ANCHOR_NS;
  }

  /** Anyone who has the journal gets the same rows (D5): all of it, from the beginning. */
  refold(): Refolded {
    const fold = createFold(CELL);
    const rows: UsageEvent[] = [];
    const anomalies: string[] = [];
    for (const { record } of this.#journal)
      for (const output of fold.apply(record)) {
        if (output.type === "usage") rows.push(this.#parts.folded(output.event));
        else if (output.type === "anomaly") anomalies.push(output.detail);
      }
    return { rows, anomalies };
  }

  #boot(epoch: number): void {
    const last_t = this.#journal.at(-1)?.record.t ?? null;
    const line = createTimeline({
      last_t,
      wall_now_ns: () => this.#true_now() + this.#wall_step,
      hrtime_ns: () => BigInt(this.#parts.now()) * 1_000n,
    });
    this.#line = line;
    this.#write({ type: "boot", t: line.now(), cell: CELL, epoch, boot_id: `boot_${epoch}` });
    for (const call of this.#open) {
      const { code } = failure("gateway_lost");
      const tokens = { prompt: 0, cached: 0, completion: 0 };
      this.#write({ type: "call_ended", t: line.now(), call, outcome: "failed", code, tokens });
    }
    // A gateway takes no call before this is on disk.
    this.#durable = this.#journal.length;
    this.#harden();
  }

  #openCalls(): Set<CallId> {
    const open = new Set<CallId>();
    for (const { record } of this.#journal) {
      if (record.type === "call_accepted") open.add(record.call);
      else if (record.type === "call_ended") open.delete(record.call);
    }
    return open;
  }

  #write(record: MeteringRecord): void {
    if (record.type === "call_accepted") this.#open.add(record.call);
    else if (record.type === "call_ended") this.#open.delete(record.call);
    this.#journal.push({ record, written: this.#parts.now() });
  }

  #harden(): void {
    const { now, journal_delay, journalled } = this.#parts;
    for (; this.#told < this.#journal.length; this.#told++) {
      const next = this.#journal[this.#told];
      if (next === undefined) return;
      if (this.#told >= this.#durable && next.written + journal_delay > now()) return;
      this.#durable = Math.max(this.#durable, this.#told + 1);
      journalled(next.record);
    }
  }

  #cut(): void {
    if (this.#line === null) return;
    const t = this.#line.now();
    this.#write({ type: "cut", t });
    this.#last_cut = t;
    this.#call_ended = false;
    this.#ship();
  }

  /** Folds on over what is durable and hands over; what is refused is kept and offered again. */
  #ship(): void {
    for (;;) {
      if (this.#in_hand.length === 0) this.#gather();
      if (this.#in_hand.length > 0 && !this.#hand_over(this.#in_hand)) return;
      this.#in_hand = [];
      this.#saved = { position: this.#folded, state: JSON.stringify(this.#fold.checkpoint()) };
      if (this.#folded >= this.#durable) return;
    }
  }

  #gather(): void {
    const rows: UsageEvent[] = [];
    while (this.#folded < this.#durable && rows.length < this.#parts.shipment_rows_max) {
      const next = this.#journal[this.#folded];
      this.#folded += 1;
      if (next === undefined) break;
      for (const output of this.#fold.apply(next.record)) if (output.type === "usage") rows.push(this.#parts.folded(output.event));
    }
    this.#in_hand = rows;
  }

  #hand_over(rows: readonly UsageEvent[]): boolean {
    const out = this.#outage !== null && this.#parts.now() < this.#outage.until ? this.#outage : null;
    if (out !== null && !out.stored) return false;
    this.#shipments += 1;
    this.#parts.shipped(this.#parts.sending(rows, this.#shipments));
    return out === null;
  }

  #true_now(): bigint {
    return ANCHOR_NS + BigInt(this.#parts.now()) * 1_000n;
  }
}
