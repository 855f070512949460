/**
 * Allocation as a pure fold over the journal (D5): anyone who has the file gets the same rows. The rules are in records.ts.
 *
 * What is known: provisions (a node's GPUs while they are ours), groups on them, instances in the groups, calls, and legs on
 * instances. A GPU moves between shares (shares.ts) and nowhere else: pool → group at `group_started`, back at `group_ended`, all
 * to the pool at `boot`, out of the books at the end of the provision. Before any move both shares are accounted for up to that instant.
 *
 * A record that contradicts the state gives an anomaly and otherwise changes as little as possible; whatever comes, time is conserved.
 * At every cut each provision is checked (I1): rows given out = GPUs × time since it was provisioned. What is known of calls and legs is bounded by
 * what the runtime admits; CUTS_REMEMBERED_MAX and RELEASES_REMEMBERED_MAX bound the rest.
 */
import { deriveId, type CallId, type CellId, type GroupId, type InstanceId, type LegId, type NodeId } from "../../../schema/core/ids.ts";
import type { CostCentre } from "../../../schema/core/wire/usage.ts";
import type { InstanceState } from "../vocabulary.ts";
import type { CallGpuTime, FoldOutput } from "./outputs.ts";
import { emptyKnowledge, type GroupEntry, type InstanceEntry, type Knowledge, type ProvisionEntry } from "./knowledge.ts";
import type { MeteringRecord } from "./records.ts";
import { restoreState, saveState, type FoldState } from "./checkpoint.ts";
import {
  accrue,
  asNanos,
  correct,
  createShare,
  CUTS_REMEMBERED_MAX,
  flush,
  flushLeg,
  usageTags,
  type Books,
  type KnownCall,
  type KnownLeg,
  type KnownProvision,
  type Share,
} from "./shares.ts";

/** Released provisions that are still recognised when they are stated again; one stated after that many others is taken for new. */
export const RELEASES_REMEMBERED_MAX = 1_024;

export interface Fold {
  apply(record: MeteringRecord): readonly FoldOutput[];
  checkpoint(): FoldState;
  /** Of a call that has not ended, or whose legs have not all left. */
  call_gpu_time(call: CallId): CallGpuTime | undefined;
  /** Accepted, not ended. */
  open_calls(): readonly CallId[];
}

type RecordOf<Type extends MeteringRecord["type"]> = Extract<MeteringRecord, { readonly type: Type }>;

export function createFold(cell: CellId, state?: FoldState): Fold {
  const known: Knowledge = state ? restoreState(cell, state) : emptyKnowledge();
  let outputs: FoldOutput[] = [];
  let now = known.last_t ?? 0n;
  const books: Books = { cell, cuts: known.cuts, emit: (event) => outputs.push({ type: "usage", event }) };
  const anomaly = (detail: string): void => void outputs.push({ type: "anomaly", t: asNanos(now), detail });

  function sharesOf(entry: ProvisionEntry): Share[] {
    const shares = [entry.pool];
    for (const group of known.groups.values()) {
      if (group.provision_id !== entry.provision.provision_id) continue;
      if (group.spare) shares.push(group.spare);
      for (const instance of group.instances) if (instance.share) shares.push(instance.share);
    }
    return shares;
  }

  // --- nodes

  function nodeProvisioned(record: RecordOf<"node_provisioned">): void {
    if (known.released.includes(record.provision_id)) return;
    const again = known.provisions.get(record.provision_id);
    if (again) return restated(again, record);
    if (!Number.isSafeInteger(record.gpus) || record.gpus < 1)
      return anomaly(`node ${record.node} was provisioned with ${record.gpus} GPUs`);
    for (const { provision } of known.provisions.values()) {
      if (provision.node === record.node) anomaly(`node ${record.node} was provisioned again while ${provision.provision_id} is open`);
    }
    const provision: KnownProvision = {
      provision_id: record.provision_id,
      node: record.node,
      gpus: record.gpus,
      provisioned_at: record.at,
      released_at: null,
      emitted: 0n,
    };
    const pool = createShare({
      subject: record.provision_id,
      group: null,
      instance: null,
      provision,
      gpus: BigInt(record.gpus),
      since: record.at,
      use: "unassigned",
    });
    known.provisions.set(record.provision_id, { provision, pool, gpu_owner: new Map() });
    state_provision(provision, null);
  }

  /** After a boot: the node is there, its GPUs are no longer lost. */
  function restated(entry: ProvisionEntry, record: RecordOf<"node_provisioned">): void {
    const { provision } = entry;
    if (provision.node !== record.node || provision.gpus !== record.gpus || provision.provisioned_at !== record.at) {
      anomaly(`provision ${record.provision_id} was stated again with another node, size or beginning`);
    }
    found(entry);
  }

  function found(entry: ProvisionEntry): void {
    if (entry.pool.use === "unassigned") return;
    accrue(books, entry.pool, now);
    entry.pool.use = "unassigned";
  }

  function nodeReleased(record: RecordOf<"node_released">): void {
    if (known.released.includes(record.provision_id)) return;
    const entry = known.provisions.get(record.provision_id);
    if (!entry) return anomaly(`node ${record.node} released ${record.provision_id}, which is not known`);
    const { provision } = entry;
    if (provision.released_at !== null) return;
    let at: bigint = record.at;
    if (at < provision.provisioned_at) {
      anomaly(`provision ${provision.provision_id} was released before it began`);
      at = provision.provisioned_at;
    }
    state_provision(provision, at);
    const shares = sharesOf(entry);
    for (const share of shares) accrue(books, share, at < now ? at : now);
    provision.released_at = at;
    if (at > now) return;
    correct(books, provision, at, shares);
    close(entry);
  }

  function state_provision(provision: KnownProvision, released_at: bigint | null): void {
    outputs.push({
      type: "provision",
      provision: {
        provision_id: provision.provision_id,
        node_id: provision.node,
        gpus: provision.gpus,
        provisioned_at: asNanos(provision.provisioned_at),
        released_at: released_at === null ? null : asNanos(released_at),
        reported_by: provision.node,
      },
    });
  }

  /** Releases that were stated ahead of our line of time, and have come. */
  function closeReleased(): void {
    for (const entry of known.provisions.values()) {
      const { released_at } = entry.provision;
      if (released_at !== null && released_at <= now) close(entry);
    }
  }

  function close(entry: ProvisionEntry): void {
    const { provision } = entry;
    for (const share of sharesOf(entry)) {
      accrue(books, share, now);
      flush(books, share);
    }
    for (const group of known.groups.values()) if (group.provision_id === provision.provision_id) detachGroup(group);
    checkConservation(provision);
    known.provisions.delete(provision.provision_id);
    known.released.push(provision.provision_id);
    if (known.released.length > RELEASES_REMEMBERED_MAX) known.released.shift();
  }

  // --- groups and instances

  function groupStarted(record: RecordOf<"group_started">): void {
    if (known.groups.has(record.group)) return anomaly(`group ${record.group} started, but it is there already`);
    const entry = provisionOf(record.node);
    if (!entry) anomaly(`group ${record.group} started on node ${record.node}, which is not provisioned`);
    else found(entry);
    const free = new Set(record.gpu_indices.filter((index) => entry && isFree(entry, index)));
    if (free.size !== record.gpu_indices.length) anomaly(`group ${record.group} names GPUs of ${record.node} that are taken or not there`);
    if (entry) {
      accrue(books, entry.pool, now);
      entry.pool.gpus -= BigInt(free.size);
      for (const index of free) entry.gpu_owner.set(index, record.group);
    }
    const instances: InstanceEntry[] = [];
    for (const { instance, gpu_indices } of record.instances) {
      if (known.instances.has(instance)) {
        anomaly(`instance ${instance} of group ${record.group} is there already`);
        continue;
      }
      const own = [...new Set(gpu_indices)].filter((index) => free.delete(index));
      if (own.length !== gpu_indices.length) anomaly(`instance ${instance} names GPUs that its group does not have`);
      const share = entry ? groupShare(entry, record.group, instance, own.length, "loading") : null;
      const known_instance: InstanceEntry = { instance, state: "loading", share };
      known.instances.set(instance, known_instance);
      instances.push(known_instance);
    }
    const spare = entry && free.size > 0 ? groupShare(entry, record.group, null, free.size, "idle") : null;
    known.groups.set(record.group, { group: record.group, provision_id: entry?.provision.provision_id ?? null, spare, instances });
  }

  function groupShare(entry: ProvisionEntry, group: GroupId, instance: InstanceId | null, gpus: number, use: CostCentre): Share {
    return createShare({
      subject: instance ?? group,
      group,
      instance,
      provision: entry.provision,
      gpus: BigInt(gpus),
      since: entry.pool.since,
      use,
    });
  }

  /** The newest provision of the node: an older one that is still open is an anomaly of its own. */
  function provisionOf(node: NodeId): ProvisionEntry | undefined {
    let newest: ProvisionEntry | undefined;
    for (const entry of known.provisions.values()) if (entry.provision.node === node) newest = entry;
    return newest;
  }

  const isFree = (entry: ProvisionEntry, index: number): boolean =>
    Number.isSafeInteger(index) && index >= 0 && index < entry.provision.gpus && !entry.gpu_owner.has(index);

  function groupEnded(record: RecordOf<"group_ended">): void {
    const group = known.groups.get(record.group);
    if (!group) return anomaly(`group ${record.group} ended, but is not known`);
    const entry = group.provision_id === null ? undefined : known.provisions.get(group.provision_id);
    if (entry) giveBack(entry, group);
    detachGroup(group);
    known.groups.delete(group.group);
    for (const { instance } of group.instances) known.instances.delete(instance);
  }

  /** The group's GPUs return to the pool. */
  function giveBack(entry: ProvisionEntry, group: GroupEntry): void {
    accrue(books, entry.pool, now);
    for (const share of [group.spare, ...group.instances.map((instance) => instance.share)]) {
      if (!share) continue;
      accrue(books, share, now);
      flush(books, share);
      entry.pool.gpus += share.gpus;
    }
    for (const [index, owner] of entry.gpu_owner) if (owner === group.group) entry.gpu_owner.delete(index);
  }

  /** The group holds no GPU any more; its legs use none until they leave. Its shares were flushed. */
  function detachGroup(group: GroupEntry): void {
    group.provision_id = null;
    group.spare = null;
    for (const instance of group.instances) {
      for (const leg of instance.share?.legs ?? []) leg.share = null;
      instance.share = null;
    }
  }

  function instanceState(record: RecordOf<"instance_state">): void {
    const instance = known.instances.get(record.instance);
    if (!instance) return anomaly(`instance ${record.instance} is ${record.state}, but is not known`);
    instance.state = record.state;
    const { share } = instance;
    if (!share) return;
    accrue(books, share, now);
    share.use = USE_OF_STATE[record.state];
    share.legs_pay = record.state === "ready" || record.state === "draining";
  }

  // --- calls and legs

  function callAccepted(record: RecordOf<"call_accepted">): void {
    const call = known.calls.get(record.call);
    if (call && !call.ended) return anomaly(`call ${record.call} was accepted again before it ended`);
    const { call: id, tags } = record;
    known.calls.set(id, { call: id, tags, accepted_at: now, ended: false, legs: 0, prefill_gpu_ns: 0n, decode_gpu_ns: 0n });
  }

  function legJoined(record: RecordOf<"leg_joined">): void {
    if (known.legs.has(record.leg)) return anomaly(`leg ${record.leg} joined again`);
    const call = known.calls.get(record.call) ?? null;
    const share = known.instances.get(record.instance)?.share ?? null;
    if (!call) anomaly(`leg ${record.leg} joined for call ${record.call}, which is not known: others pay for its time`);
    if (!share) anomaly(`leg ${record.leg} joined instance ${record.instance}, which has no GPU that is known`);
    const weight = checkedWeight(record.leg, record.weight);
    const leg: KnownLeg = { id: record.leg, call, role: record.role, holding: false, weight, row: null, share: call ? share : null };
    known.legs.set(leg.id, leg);
    if (call) call.legs += 1;
    if (!leg.share) return;
    accrue(books, leg.share, now);
    leg.share.legs.push(leg);
  }

  function legHolding(record: RecordOf<"leg_holding">): void {
    const leg = known.legs.get(record.leg);
    if (!leg) return anomaly(`leg ${record.leg} holds KV, but is not known`);
    if (leg.share) accrue(books, leg.share, now);
    flushLeg(books, leg);
    leg.holding = true;
    leg.weight = checkedWeight(record.leg, record.weight);
  }

  function legLeft(record: RecordOf<"leg_left">): void {
    const leg = known.legs.get(record.leg);
    if (!leg) return anomaly(`leg ${record.leg} left, but is not known`);
    if (leg.share) {
      accrue(books, leg.share, now);
      flushLeg(books, leg);
      leg.share.legs.splice(leg.share.legs.indexOf(leg), 1);
    }
    known.legs.delete(leg.id);
    if (!leg.call) return;
    leg.call.legs -= 1;
    forgetCall(leg.call);
  }

  function checkedWeight(leg: LegId, weight: number): bigint {
    if (Number.isSafeInteger(weight) && weight > 0) return BigInt(weight);
    anomaly(`leg ${leg} has weight ${weight}, which is not a positive integer: 1 is taken`);
    return 1n;
  }

  function callEnded(record: RecordOf<"call_ended">): void {
    const call = known.calls.get(record.call);
    if (!call || call.ended) return anomaly(`call ${record.call} ended, but is not open`);
    call.ended = true;
    const tokens = checkedTokens(record);
    const { tags } = call;
    outputs.push({
      type: "call",
      row: {
        call_id: call.call,
        tenant: tags.tenant,
        accepted_at: asNanos(call.accepted_at),
        ended_at: asNanos(now),
        outcome: record.outcome,
        code: record.code,
        tags,
        tokens,
      },
      gpu_time: { prefill_gpu_ns: call.prefill_gpu_ns, decode_gpu_ns: call.decode_gpu_ns },
    });
    // Tokens are used at an instant. The nanosecond that ends there is theirs: it lies in one minute, and before the next cut.
    const from = now === known.cuts.at(-1) || now === 0n ? now : now - 1n;
    books.emit({
      id: deriveId("usage", cell, "tokens", call.call, call.accepted_at.toString()),
      source: "gateway",
      kind: "tokens",
      from_ns: from.toString(),
      to_ns: (from + 1n).toString(),
      quantity: (tokens.prompt + tokens.completion).toString(),
      ...usageTags(tags),
      call: call.call,
      cell,
      tokens,
    });
    forgetCall(call);
  }

  function checkedTokens({ call, tokens }: RecordOf<"call_ended">) {
    const whole = (n: number): number => (Number.isSafeInteger(n) && n > 0 ? n : 0);
    const prompt = whole(tokens.prompt);
    const checked = { prompt, cached: Math.min(prompt, whole(tokens.cached)), completion: whole(tokens.completion) };
    if (checked.prompt !== tokens.prompt || checked.cached !== tokens.cached || checked.completion !== tokens.completion) {
      anomaly(`call ${call} ended with impossible token counts ${JSON.stringify(tokens)}`);
    }
    return checked;
  }

  function forgetCall(call: KnownCall): void {
    if (call.ended && call.legs === 0 && known.calls.get(call.call) === call) known.calls.delete(call.call);
  }

  // --- time

  /** The process that wrote the last record is gone, and with it its legs. What it knew of groups must be stated again. */
  function boot(before: bigint | null): void {
    if (before === null) return;
    for (const entry of known.provisions.values()) {
      for (const share of sharesOf(entry)) {
        accrue(books, share, before);
        flush(books, share);
      }
      entry.pool.gpus = BigInt(entry.provision.gpus);
      entry.pool.use = "lost";
      entry.gpu_owner.clear();
    }
    known.groups.clear();
    known.instances.clear();
    known.legs.clear();
    for (const call of known.calls.values()) {
      call.legs = 0;
      forgetCall(call);
    }
  }

  function cut(): void {
    for (const entry of known.provisions.values()) {
      for (const share of sharesOf(entry)) {
        accrue(books, share, now);
        flush(books, share);
      }
      checkConservation(entry.provision);
    }
    known.cuts.push(now);
    if (known.cuts.length > CUTS_REMEMBERED_MAX) known.cuts.shift();
    outputs.push({ type: "watermark", t: asNanos(now) });
  }

  /** I1, as an assertion on what was given out, not on what was meant. */
  function checkConservation(provision: KnownProvision): void {
    const { released_at, provisioned_at } = provision;
    const until = released_at !== null && released_at < now ? released_at : now;
    const provisioned = until > provisioned_at ? (until - provisioned_at) * BigInt(provision.gpus) : 0n;
    const difference = provision.emitted - provisioned;
    if (difference === 0n) return;
    anomaly(
      `conservation: provision ${provision.provision_id} of node ${provision.node} metered ${difference} GPU-ns more than provisioned`,
    );
  }

  function handle(record: MeteringRecord): void {
    switch (record.type) {
      case "boot":
      case "alive":
        return;
      case "node_provisioned":
        return nodeProvisioned(record);
      case "node_released":
        return nodeReleased(record);
      case "group_started":
        return groupStarted(record);
      case "group_ended":
        return groupEnded(record);
      case "instance_state":
        return instanceState(record);
      case "call_accepted":
        return callAccepted(record);
      case "leg_joined":
        return legJoined(record);
      case "leg_holding":
        return legHolding(record);
      case "leg_left":
        return legLeft(record);
      case "call_ended":
        return callEnded(record);
      case "cut":
        return cut();
    }
  }

  return {
    apply(record) {
      outputs = [];
      const before = known.last_t;
      now = record.t;
      if (before !== null && now < before) {
        anomaly(`${record.type} goes back ${before - now} ns in time: taken as of the record before`);
        now = before;
      }
      known.last_t = now;
      // A boot ends what was before it first: a release since then finds its time on `lost`.
      if (record.type === "boot") boot(before);
      closeReleased();
      handle(record);
      return outputs;
    },
    checkpoint: () => saveState(cell, known),
    call_gpu_time(id) {
      const call = known.calls.get(id);
      return call && { prefill_gpu_ns: call.prefill_gpu_ns, decode_gpu_ns: call.decode_gpu_ns };
    },
    open_calls: () => [...known.calls.values()].filter((call) => !call.ended).map((call) => call.call),
  };
}

const USE_OF_STATE: Readonly<Record<InstanceState, CostCentre>> = {
  loading: "loading",
  ready: "idle",
  sleeping: "idle",
  waking: "waking",
  draining: "draining",
  lost: "lost",
};
