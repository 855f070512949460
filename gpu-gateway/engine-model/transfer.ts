/**
 * KV transfers that share links. A transfer takes a fixed handshake, then flows until its bytes are over; all that flow at once share
 * the links by max-min fairness (progressive filling: Bertsekas and Gallager, Data Networks, §6.5.2): the rates of all grow together, and
 * a transfer's rate is final once one of its links is full. So no link is over its capacity and none that could be used is idle.
 *
 * Links: each GPU's NVLink, 300 GB/s out and as much in; each node's NIC, 25 GB/s out and in. The KV of a sequence lies in equal parts on
 * the GPUs of its instance, in order (layers by pipeline stage, heads by rank). A part goes from the GPU that has it to the one that
 * wants it: over NVLink within a node, else through both nodes' NICs, which all its GPUs share. The parts of one transfer advance
 * in step, as fast as the slowest of them may.
 *
 * A state machine over time in microseconds: `begin`, `cancel`, and `advance` at the times that `wake` names. State changes in
 * `#passTo` and `#share` alone.
 */
import { A100 } from "./a100.ts";

export type Gpu = { readonly node: number; readonly gpu: number };
/** The GPUs of an instance, in the order of its parts. */
export type Endpoint = readonly Gpu[];

export type Fabric = {
  readonly nvlink_bytes_per_us: number;
  readonly nic_bytes_per_us: number;
  /** An assumption: handshake, descriptors, notification. */
  readonly handshake_us: number;
  /** Transfers at once; more are refused. */
  readonly transfers_max: number;
};

export const A100_FABRIC: Fabric = {
  nvlink_bytes_per_us: A100.nvlink_bytes_per_us,
  nic_bytes_per_us: A100.nic_bytes_per_us,
  handshake_us: 1_000,
  transfers_max: 4_096,
};

export type BeginOutcome = { readonly type: "begun" } | { readonly type: "refused"; readonly reason: "too_many" | "id_in_use" };

/** `share`: of a transfer's bytes, how much passes over this link. */
type Use = { readonly link: string; readonly share: number };
type Transfer = {
  readonly id: string;
  readonly flows_from: number;
  readonly uses: readonly Use[];
  left_bytes: number;
  /** Bytes per microsecond; 0 before it flows. */
  rate: number;
};

/** Less than a byte is nothing: what rounding leaves of a transfer that is over. */
const NOTHING_BYTES = 0.5;

export class TransferModel {
  readonly fabric: Fabric;
  #now = 0;
  /** In order of their ids, so that sums come out the same however they began. */
  #transfers: Transfer[] = [];

  constructor(fabric: Fabric = A100_FABRIC) {
    this.fabric = fabric;
  }

  get size(): number {
    return this.#transfers.length;
  }

  /** Times given to `begin`, `cancel` and `advance` never go back. They may be late: what happened meanwhile happens at its own time. */
  begin(id: string, from: Endpoint, to: Endpoint, bytes: number, now: number): BeginOutcome {
    this.#passTo(now);
    if (this.#transfers.length >= this.fabric.transfers_max) return { type: "refused", reason: "too_many" };
    if (this.#transfers.some((other) => other.id === id)) return { type: "refused", reason: "id_in_use" };
    const transfer = { id, flows_from: now + this.fabric.handshake_us, uses: usesOf(from, to), left_bytes: bytes, rate: 0 };
    const before = this.#transfers.findIndex((other) => other.id > id);
    this.#transfers.splice(before < 0 ? this.#transfers.length : before, 0, transfer);
    this.#share();
    return { type: "begun" };
  }

  /** Its links are free from `now` on. False: no such transfer (it is over). */
  cancel(id: string, now: number): boolean {
    this.#passTo(now);
    const index = this.#transfers.findIndex((other) => other.id === id);
    if (index < 0) return false;
    this.#transfers.splice(index, 1);
    this.#share();
    return true;
  }

  /** When to call `advance` next: a transfer begins to flow, or is over. Null: nothing is under way. */
  wake(): number | null {
    let at = Number.POSITIVE_INFINITY;
    for (const transfer of this.#transfers) at = Math.min(at, this.#nextOf(transfer));
    return at === Number.POSITIVE_INFINITY ? null : Math.ceil(at);
  }

  /** Ids of the transfers that are over at `now`, by id. */
  advance(now: number): readonly string[] {
    this.#passTo(now);
    const over = this.#transfers.filter((transfer) => this.#isOver(transfer));
    this.#transfers = this.#transfers.filter((transfer) => !over.includes(transfer));
    return over.map((transfer) => transfer.id);
  }

  /** Bytes per microsecond that pass over each link in use now. For tests and measurements. */
  loads(): ReadonlyMap<string, number> {
    const loads = new Map<string, number>();
    for (const { uses, rate } of this.#transfers)
      for (const { link, share } of uses) loads.set(link, (loads.get(link) ?? 0) + rate * share);
    return loads;
  }

  /** Bytes of a transfer that have not arrived. Null: no such transfer. */
  left(id: string): number | null {
    return this.#transfers.find((transfer) => transfer.id === id)?.left_bytes ?? null;
  }

  capacity(link: string): number {
    return link.startsWith("nic") ? this.fabric.nic_bytes_per_us : this.fabric.nvlink_bytes_per_us;
  }

  /** When it begins to flow, or is over at the present rates. Now, if it is over already. */
  #nextOf(transfer: Transfer): number {
    if (transfer.flows_from > this.#now) return transfer.flows_from;
    if (transfer.left_bytes <= NOTHING_BYTES) return this.#now;
    return this.#now + transfer.left_bytes / transfer.rate;
  }

  /** Rates change at the moments when one begins to flow or is over; between them all is linear. */
  #passTo(now: number): void {
    if (now < this.#now) throw new RangeError(`time goes back: ${now} after ${this.#now}`);
    for (;;) {
      let next = Number.POSITIVE_INFINITY;
      for (const transfer of this.#transfers) if (!this.#isOver(transfer)) next = Math.min(next, this.#nextOf(transfer));
      const to = Math.min(now, next);
      for (const transfer of this.#transfers) {
        const left = Math.max(0, transfer.left_bytes - transfer.rate * (to - this.#now));
        // Hours into a run the rest may take less time than a number there can tell: no later instant would end it.
        transfer.left_bytes = transfer.rate > 0 && to + left / transfer.rate === to ? 0 : left;
      }
      this.#now = to;
      if (next > now) return;
      this.#share();
    }
  }

  #isOver(transfer: Transfer): boolean {
    return transfer.flows_from <= this.#now && transfer.left_bytes <= NOTHING_BYTES;
  }

  #share(): void {
    let rising = this.#transfers.filter((transfer) => transfer.flows_from <= this.#now && !this.#isOver(transfer));
    for (const transfer of this.#transfers) transfer.rate = 0;
    const free = new Map<string, number>();
    for (const { uses } of rising) for (const { link } of uses) free.set(link, this.capacity(link));
    while (rising.length > 0) {
      const demand = new Map<string, number>();
      for (const { uses } of rising) for (const { link, share } of uses) demand.set(link, (demand.get(link) ?? 0) + share);
      let [rise, full] = [Number.POSITIVE_INFINITY, ""];
      for (const [link, shares] of demand) {
        const room = Math.max(0, free.get(link) ?? 0) / shares;
        if (room < rise || (room === rise && link < full)) [rise, full] = [room, link];
      }
      for (const transfer of rising) transfer.rate += rise;
      for (const [link, shares] of demand) free.set(link, (free.get(link) ?? 0) - rise * shares);
      free.set(full, 0);
      rising = rising.filter((transfer) => transfer.uses.every(({ link }) => link !== full));
    }
  }
}

/** The parts of a sequence's KV lie on both sides in one order: where a part of one overlaps a part of the other, bytes pass. */
function usesOf(from: Endpoint, to: Endpoint): Use[] {
  const shares = new Map<string, number>();
  const add = (link: string, share: number) => shares.set(link, (shares.get(link) ?? 0) + share);
  for (const [i, source] of from.entries()) {
    for (const [j, target] of to.entries()) {
      const share = Math.min((i + 1) / from.length, (j + 1) / to.length) - Math.max(i / from.length, j / to.length);
      if (share <= 1e-12) continue;
      const within = source.node === target.node;
      add(within ? `nvlink out ${source.node}.${source.gpu}` : `nic out ${source.node}`, share);
      add(within ? `nvlink in ${target.node}.${target.gpu}` : `nic in ${target.node}`, share);
    }
  }
  return [...shares].map(([link, share]) => ({ link, share })).toSorted((a, b) => (a.link < b.link ? -1 : 1));
}
