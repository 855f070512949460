/**
 * The meter: what the gateway's runtime tells about GPUs and calls, and what it may ask. It stamps each record with the cell's
 * own line of time, journals it, folds it live, cuts, and has the shipper bring the rows to the ledger.
 *
 * How the runtime uses it:
 *  1. `createMeter` (journals `boot`; after a crash the gap goes to `lost`, and every GPU stays on `lost` until its node or a
 *     group on it is announced again: send `node_provisioned`, `group_started` and `instance_state` for all that was adopted).
 *  2. End each of `open_calls`: an earlier boot accepted them and did not live to answer.
 *  3. `record(…)` for each thing that happens. "Accepted means journalled" (D4): `record({type: "call_accepted"…})`, then
 *     `await durable()` before the client is told.
 *  4. Cuts come by themselves (each UTC minute, every `usage_cut_ms` when calls ended, and after CALLS_PER_CUT_MAX of them); `settle()` cuts now and ships.
 */
import type { CallId, CellId, NodeId } from "../../schema/core/ids.ts";
import { minuteOf, type Nanos } from "../../schema/core/time.ts";
import type { CallGpuTime, FoldOutput } from "../policy/metering/outputs.ts";
import type { CallTokens, MeteringRecord } from "../policy/metering/records.ts";
import type { Standing } from "../policy/metering/takeover.ts";
import { openJournal } from "./journal/journal.ts";
import { createTimeline } from "./journal/line.ts";
import { beginAtStanding } from "./takeover.ts";
import type { SettleOutcome, Shipper, ShipperParts } from "./shipper.ts";

/** At most this long between cuts once a call has ended, so that its cost can be seen. */
export const USAGE_CUT_MS = 5_000;
/**
 * Calls that may end between two cuts: at it, a cut at once. It bounds the rows between cuts, and so a new owner's first shipment, which reaches to
 * the first cut: a call is about 5 rows, 2.6 kB in all, so tens of MB of the shipper's HEAP_MB_MAX, whatever `usage_cut_ms` is.
 */
export const CALLS_PER_CUT_MAX = 10_000;
/** The longest silence in the journal: what a crash can take on top of what it interrupts. */
export const ALIVE_MS = 500;
/** How long a cut waits for the nodes' confirmation. A node that does not answer is metered on; its release, once known, is corrected. */
export const RENEW_WAIT_MS = 3_000;
/** Ended calls of which `call_meter` still knows; the oldest go. */
export const CALL_METERS_MAX = 10_000;

/** A silence that a busy machine may cause; `alive` comes more often. */
const SILENCE_NS_MAX = BigInt(2 * ALIVE_MS) * 1_000_000n;

type WithoutT<R> = R extends unknown ? Omit<R, "t"> : never;
type Stampable = WithoutT<MeteringRecord>;
/** What the runtime records. The meter adds `t`, and writes `boot`, `alive` and `cut` itself. */
export type MeterInput = WithoutT<Exclude<MeteringRecord, { readonly type: "boot" | "alive" | "cut" }>>;

export type MeterClock = {
  /** UTC nanoseconds; may step. Read once, at the start. */
  wall_now_ns(): bigint;
  /** Monotonic nanoseconds from any origin. */
  hrtime_ns(): bigint;
};

export type MeterOptions = {
  readonly journal_dir: string;
  readonly cell: CellId;
  readonly epoch: number;
  readonly boot_id: string;
  /** What the ledger holds of the cell, read when its lease was ours: where this journal does not know of it, the cell was another's (takeover.ts). */
  readonly standing?: Standing | null;
  /** Begins to bring what is released to the ledger: in a thread of its own, or here. */
  readonly startShipper: (parts: ShipperParts) => Promise<Shipper>;
  /**
   * Renews the nodes' leases and says until when each node confirms that it was ours. Called after each cut and before the cut's
   * rows are released, so that a node released before the cut is known by then: record its `node_released` before resolving.
   */
  readonly renew: () => Promise<ReadonlyMap<NodeId, Nanos>>;
  /** The journal can no longer be written (disk full, I/O error): stop taking calls. Called once. */
  readonly on_failure: (reason: string) => void;
  /** A record that contradicts the state, a broken conservation, a torn tail, a conflict in the ledger: for the log and a counter. */
  readonly on_anomaly?: (detail: string) => void;
  readonly clock?: MeterClock;
  /**
   * A longer silence in our own journal means that this process stood still (stopped, starved) for as long as its lease: its nodes may be released
   * by now. Nothing is metered over it as if we had been there: the gap goes to `lost`, as at a boot. Left out: no bound.
   */
  readonly stall_ms_max?: number;
  /** Whether the lease is over: then a silence need only be longer than any that is usual. */
  readonly lease_over?: () => boolean;
  /** Such a silence was found, and stands in the journal: command no more. Called once. */
  readonly on_stall?: (reason: string) => void;
  /** The ledger takes no more of us: another has the cell. Command no more. Called once. */
  readonly on_superseded?: (reason: string) => void;
  readonly usage_cut_ms?: number;
  readonly group_commit_ms?: number;
  readonly segment_bytes_max?: number;
};

export type CallMeter = CallGpuTime;

export type { SettleOutcome };

export interface Meter {
  /** Calls that an earlier boot accepted and never ended. */
  readonly open_calls: readonly CallId[];
  /** Of one of those: what it was sent at least, as the earlier boot noted every NOTE_PERIOD_MS. */
  tokens_sent(call: CallId): CallTokens;
  /** The cell's line of time: UTC nanoseconds, never back. */
  now(): Nanos;
  /** Stamps, journals, folds: microseconds, no I/O. After a failure of the journal it is dropped. */
  record(input: MeterInput): Nanos;
  /** Resolves when everything recorded so far is on disk; rejects when the journal has failed. */
  durable(): Promise<void>;
  state(): "open" | "failed" | "closed";
  /** Closes every interval now, renews, and releases the rows to the shipper. Resolves with the cut's instant once it is durable. */
  cut(): Promise<Nanos>;
  /** `cut`, then ships all that there is. */
  settle(): Promise<SettleOutcome>;
  /** What a call used so far, or in all if it ended a short while ago. A whole leg counts as decode, holding as prefill. */
  call_meter(call: CallId): CallMeter | undefined;
  /** A last cut (nodes are not asked any more), a last attempt to ship, then the journal is closed. */
  close(): Promise<void>;
}

export async function createMeter(options: MeterOptions): Promise<Meter> {
  const { journal_dir, cell, epoch, boot_id, renew, on_failure } = options;
  const on_anomaly = options.on_anomaly ?? (() => undefined);
  const clock = options.clock ?? SYSTEM_CLOCK;
  const usage_cut_ns = BigInt(options.usage_cut_ms ?? USAGE_CUT_MS) * 1_000_000n;
  const stall_ns_max = options.stall_ms_max === undefined ? null : BigInt(options.stall_ms_max) * 1_000_000n;
  const { group_commit_ms, segment_bytes_max } = options;
  const journal = await openJournal({
    dir: journal_dir,
    cell,
    on_failure,
    ...(group_commit_ms === undefined ? {} : { group_commit_ms }),
    ...(segment_bytes_max === undefined ? {} : { segment_bytes_max }),
  });
  const { torn } = journal.recovery;
  if (torn) on_anomaly(`the journal ended in ${torn.bytes} bytes of an unfinished write, which were cut off (${torn.file})`);
  if (options.standing) await beginAtStanding(journal, { dir: journal_dir, cell, standing: options.standing, on_anomaly });
  const open_calls = journal.fold.open_calls();
  const line = createTimeline({ last_t: journal.last_t, ...clock });
  const ended = new Map<CallId, CallMeter>();
  const behind = new Set<NodeId>();
  let cutting: Promise<unknown> = Promise.resolve();
  let last_cut = line.now();
  let calls_ended = 0;
  let stalled = false;
  let closed = false;

  /** The only way into the journal after the first boot: a gap longer than the lease is told before what comes after it. */
  function append(input: Stampable): Nanos {
    endStall();
    return stamp(input);
  }

  function stamp(input: Stampable): Nanos {
    const record: MeteringRecord = { ...input, t: line.now() };
    // After a stall the fold has ended every leg and forgotten every group: what the runtime still says of them contradicts nothing.
    for (const output of journal.append(record)) if (!(stalled && output.type === "anomaly")) take(output);
    return record.t;
  }

  function endStall(): void {
    const { last_t } = journal;
    if (stall_ns_max === null || last_t === null || journal.state() !== "open") return;
    const gap = line.now() - last_t;
    if (gap <= stall_ns_max && (gap <= SILENCE_NS_MAX || options.lease_over?.() !== true)) return;
    const first = !stalled;
    stalled = true;
    stamp({ type: "boot", cell, epoch, boot_id });
    // Not from within: whoever records is in the middle of something.
    if (first) queueMicrotask(() => options.on_stall?.(`this process stood still for ${gap / 1_000_000n} ms, longer than its lease`));
  }

  function take(output: FoldOutput): void {
    if (output.type === "anomaly") return on_anomaly(`metering: ${output.detail}`);
    if (output.type !== "call") return;
    calls_ended += 1;
    ended.delete(output.row.call_id);
    ended.set(output.row.call_id, output.gpu_time);
    if (ended.size > CALL_METERS_MAX) for (const oldest of ended.keys()) return void ended.delete(oldest);
  }

  stamp({ type: "boot", cell, epoch, boot_id });
  await journal.durable();
  const shipper = await options.startShipper({
    dir: journal_dir,
    cell,
    epoch,
    journal,
    on_anomaly,
    on_superseded: (reason) => options.on_superseded?.(reason),
  });

  /** Cuts, learns what the nodes released before the cut, and only then lets the rows go; one cut after the other. */
  function cut(nodes_answer = true): Promise<Nanos> {
    const next = cutting.then(() => cutOnce(nodes_answer));
    cutting = next.catch(() => undefined);
    return next;
  }

  async function cutOnce(nodes_answer: boolean): Promise<Nanos> {
    const t = append({ type: "cut" });
    last_cut = t;
    calls_ended = 0;
    if (nodes_answer) for (const [node, confirmed_at] of await confirmations()) noteConfirmation(node, confirmed_at, t);
    await journal.durable();
    shipper.release(journal.end(), t);
    return t;
  }

  async function confirmations(): Promise<ReadonlyMap<NodeId, Nanos>> {
    const { promise: late, resolve } = Promise.withResolvers<ReadonlyMap<NodeId, Nanos>>();
    const timer = setTimeout(() => resolve(new Map()), RENEW_WAIT_MS);
    try {
      return await Promise.race([renew(), late]);
    } catch (error) {
      on_anomaly(`nodes could not be renewed for a cut: ${error instanceof Error ? error.message : String(error)}`);
      return new Map();
    } finally {
      clearTimeout(timer);
    }
  }

  function noteConfirmation(node: NodeId, confirmed_at: Nanos, t: Nanos): void {
    if (confirmed_at >= t) return void behind.delete(node);
    if (behind.has(node)) return;
    behind.add(node);
    on_anomaly(`node ${node} confirms ${t - confirmed_at} ns less than the cut: its clock is behind, or it is not reached`);
  }

  const tick = setInterval(() => {
    if (journal.state() !== "open") return;
    const now = line.now();
    const due =
      minuteOf(now) > minuteOf(last_cut) || calls_ended >= CALLS_PER_CUT_MAX || (calls_ended > 0 && now - last_cut >= usage_cut_ns);
    if (due) cut().catch((error: unknown) => on_anomaly(`cut: ${error instanceof Error ? error.message : String(error)}`));
    else if (now - (journal.last_t ?? 0n) >= (BigInt(ALIVE_MS) * 1_000_000n) / 2n) append({ type: "alive" });
  }, ALIVE_MS / 2);

  return {
    open_calls,
    tokens_sent: (call) => journal.fold.tokens_sent(call),
    now: () => line.now(),
    record: (input) => append(input),
    durable: () => journal.durable(),
    state: () => journal.state(),
    cut: () => cut(),
    async settle() {
      await cut();
      return shipper.settle();
    },
    call_meter: (call) => journal.fold.call_gpu_time(call) ?? ended.get(call),
    async close() {
      if (closed) return;
      closed = true;
      clearInterval(tick);
      if (journal.state() === "open") await cut(false).then(() => shipper.settle());
      await shipper.close();
      await journal.close();
    },
  };
}

const SYSTEM_CLOCK: MeterClock = {
  wall_now_ns: () => BigInt(Date.now()) * 1_000_000n,
  hrtime_ns: () => process.hrtime.bigint(),
};
