/** The hooks that a fault schedule pulls (faults/hooks.ts), on the parts of a running world. */
import type { Micros } from "../../schema/core/time.ts";
import type { VirtualClock } from "./clock.ts";
import type { Driver } from "./driver.ts";
import type { Gateway } from "./gateway.ts";
import type { Machines, VirtualGroup } from "./machines.ts";
import type { Transfers } from "./transfers.ts";
import type { World } from "./types.ts";
import type { Wire } from "./wire.ts";

export type WorldParts = {
  readonly clock: VirtualClock;
  readonly machines: Machines;
  readonly wire: Wire;
  readonly transfers: Transfers;
  readonly driver: Driver;
  readonly gateway: () => Gateway | null;
  readonly boot: () => void;
  /** False: it is down already. */
  readonly crash: () => boolean;
};

export function worldOf({ clock, machines, wire, transfers, driver, gateway, boot, crash }: WorldParts): World {
  const alive = (): VirtualGroup[] => [...machines.groups.values()].filter(({ engine }) => engine.alive);
  const engineOf = (id: string) => alive().find(({ engine }) => engine.instance_id === id)?.engine;

  return {
    now: () => clock.now as Micros,
    at(instant, act) {
      const release = driver.hold();
      clock.scheduleFirst(instant, {
        run() {
          release();
          act();
        },
      });
    },
    instances: () =>
      alive()
        .map(({ engine, group_id, node }) => ({ instance_id: engine.instance_id, group_id, node_id: node.node_id }))
        .toSorted((a, b) => (a.instance_id < b.instance_id ? -1 : 1)),
    nodes: () => machines.nodes.map(({ node_id }) => node_id),
    killInstance: (instance) => machines.kill(instance),
    slowInstance(instance, factor, until) {
      engineOf(instance)?.slow(factor, until);
      return engineOf(instance) !== undefined;
    },
    hangInstance(instance, until) {
      engineOf(instance)?.hang(until);
      return engineOf(instance) !== undefined;
    },
    partition(node, until) {
      const there = machines.nodes.some(({ node_id }) => node_id === node);
      if (!there) return false;
      wire.partition(node, until);
      for (const group of alive()) if (group.node.node_id === node) group.engine.cut();
      return true;
    },
    nextTransfer(fault, until, fired) {
      transfers.next(fault, until, fired ?? null);
      return true;
    },
    submit: (sim) => driver.submit(sim),
    cancelCall: (call, reason) => gateway()?.cancel(call, reason) ?? false,
    restartGateway(down) {
      if (!crash()) return false;
      const release = driver.hold();
      clock.alarm(clock.now + down, () => {
        release();
        boot();
      });
      return true;
    },
  };
}
