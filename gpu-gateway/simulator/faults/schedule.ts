/**
 * Lets the planned faults happen, each at its instant, to whoever is there by then. What found nobody to happen to did not fire, and is not
 * counted: a run in which nothing fired has shown nothing.
 */
import type { Micros } from "../../../schema/core/time.ts";
import type { Fault, FaultKind } from "./fault.ts";
import type { WorldFaults } from "./hooks.ts";

/** What else can be hit, besides the world. Each answers whether there was something to hit. */
export interface FaultTargets {
  gatewayRestart(down: Micros): boolean;
  clockStep(by: Micros): boolean;
  ledgerOutage(until: Micros, stored: boolean): boolean;
  /** These two wait for their moment, and say when it came. */
  linkCut(which: number, fired: () => void): void;
  sessionEvicted(which: number, fired: () => void): void;
  clientCut(which: number): boolean;
}

export function schedule(
  faults: readonly Fault[],
  at: (instant: Micros, act: () => void) => void,
  world: WorldFaults,
  targets: FaultTargets,
  fired: (kind: FaultKind) => void,
): void {
  for (const fault of faults)
    at(fault.at, () => {
      if (happens(fault, world, targets, () => fired(fault.kind))) fired(fault.kind);
    });
}

/** What waits for its moment is told by `later`. */
function happens(fault: Fault, world: WorldFaults, targets: FaultTargets, later: () => void): boolean {
  const until = (lasts: Micros): Micros => (fault.at + lasts) as Micros;
  const instance = (which: number) => nth(world.instances(), which)?.instance_id;
  switch (fault.kind) {
    case "instance_death": {
      const id = instance(fault.which);
      return id !== undefined && world.killInstance(id);
    }
    case "instance_slow": {
      const id = instance(fault.which);
      return id !== undefined && world.slowInstance(id, fault.factor, until(fault.lasts));
    }
    case "instance_hangs": {
      const id = instance(fault.which);
      return id !== undefined && world.hangInstance(id, until(fault.lasts));
    }
    case "partition": {
      const node = nth(world.nodes(), fault.which);
      return node !== undefined && world.partition(node, until(fault.lasts));
    }
    case "transfer_lost":
      world.nextTransfer({ type: "lost" }, until(fault.lasts), later);
      return false;
    case "transfer_late":
      world.nextTransfer({ type: "late", by: fault.by }, until(fault.lasts), later);
      return false;
    case "transfer_duplicated":
      world.nextTransfer({ type: "duplicated", after: fault.after }, until(fault.lasts), later);
      return false;
    case "gateway_restart":
      return targets.gatewayRestart(fault.down);
    case "clock_step":
      return targets.clockStep(fault.by);
    case "ledger_outage":
      return targets.ledgerOutage(until(fault.lasts), fault.stored);
    case "link_cut":
      targets.linkCut(fault.which, later);
      return false;
    case "session_evicted":
      targets.sessionEvicted(fault.which, later);
      return false;
    case "client_cut":
      return targets.clientCut(fault.which);
  }
}

const nth = <T>(list: readonly T[], which: number): T | undefined => (list.length === 0 ? undefined : list[which % list.length]);
