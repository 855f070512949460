/**
 * What the gateway has been told of this node, so that it is told each thing once: events come from a feed, from snapshots
 * after a gap, and from answers to launches, in any order.
 */
import type { GroupId } from "../../../schema/core/ids.ts";
import type { NodeEvent, Snapshot } from "../../node-agent/wire.ts";
import type { Provision, ProviderEvent, RunningGroup } from "../../ports/provider.ts";

export class KnownGroups {
  readonly #emit: (event: ProviderEvent) => void;
  readonly #groups = new Map<GroupId, RunningGroup["state"]>();
  /** Launches on their way, and whether their group has ended already. At most one for each launch under way. */
  readonly #launching = new Map<GroupId, "no news" | "ended">();
  readonly #provisions = new Map<string, "open" | "closed">();

  constructor(emit: (event: ProviderEvent) => void) {
    this.#emit = emit;
  }

  beginLaunch(group_id: GroupId): void {
    this.#launching.set(group_id, "no news");
  }

  /** `group` null: refused. */
  endLaunch(group_id: GroupId, group: RunningGroup | null): void {
    const news = this.#launching.get(group_id);
    this.#launching.delete(group_id);
    if (group !== null && news !== "ended" && !this.#groups.has(group_id)) this.#groups.set(group_id, group.state);
  }

  /** At the start: these are returned, not reported. */
  adopt(groups: readonly RunningGroup[]): void {
    for (const group of groups) this.#groups.set(group.group_id, group.state);
  }

  event(event: NodeEvent): void {
    if (event.type === "group") {
      this.#update(event.group);
      return;
    }
    const known = this.#groups.delete(event.group_id);
    const launching = this.#launching.has(event.group_id);
    if (launching) this.#launching.set(event.group_id, "ended");
    if (known || launching) this.#emit(event);
  }

  /** After a gap in the feed: whatever is missing ended unseen. */
  snapshot({ groups }: Snapshot, reason: string): void {
    const there = new Set(groups.map((group) => group.group_id));
    for (const group_id of [...this.#groups.keys()].sort()) if (!there.has(group_id)) this.event({ type: "group_lost", group_id, reason });
    for (const group of groups) this.#update(group);
  }

  /** A node that was given back: its groups were stopped with it. */
  allStopped(): void {
    for (const group_id of [...this.#groups.keys()].sort()) this.event({ type: "group_stopped", group_id });
  }

  provisions(provisions: readonly Provision[]): void {
    for (const provision of provisions) {
      const state = provision.released_at === null ? "open" : "closed";
      if (this.#provisions.get(provision.provision_id) === state) continue;
      this.#emit({ type: "provision", provision });
    }
    // Only those that the node still names can be named again.
    this.#provisions.clear();
    for (const { provision_id, released_at } of provisions) this.#provisions.set(provision_id, released_at === null ? "open" : "closed");
  }

  #update(group: RunningGroup): void {
    if (this.#groups.get(group.group_id) === group.state) return;
    this.#groups.set(group.group_id, group.state);
    this.#emit({ type: "group", group });
  }
}
