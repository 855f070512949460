/**
 * A cluster in virtual time: clients, one gateway with the real scheduler, engines on nodes. The same seed and the same clients give
 * the same events at the same instants, byte for byte (I9): nothing here draws lots; what is random comes with clients and policies.
 */
import type { Micros } from "../../schema/core/time.ts";
import { createScheduler } from "../policy/scheduler.ts";
import { VirtualClock } from "./clock.ts";
import { Driver } from "./driver.ts";
import { Gateway } from "./gateway.ts";
import { Machines } from "./machines.ts";
import { CELL, Records } from "./records.ts";
import { Tally } from "./tally.ts";
import { Transfers } from "./transfers.ts";
import type { InstanceTimes, RunOptions, RunResult } from "./types.ts";
import { Wire } from "./wire.ts";
import { worldOf } from "./world.ts";

const SECOND = 1_000_000;

export function runCluster(options: RunOptions): RunResult {
  const { cluster, clients } = options;
  const observer = options.observer ?? {};
  const clock = new VirtualClock();
  const tally = new Tally();
  const records = new Records(observer.record?.bind(observer) ?? null, () => clock.now);
  const transfers = new Transfers(clock);
  const kv = observer.kvRead === undefined ? null : observer;
  const wire = new Wire(clock, cluster.link_delay);
  const machines = new Machines(
    { clock, transfers, link_delay: cluster.link_delay, notice_delay: cluster.notice_delay ?? 0, kv },
    wire,
    cluster,
  );
  let gateway: Gateway | null = null;
  let epoch = 0;
  const driver = new Driver(clock, clients, cluster.link_delay, observer, () => gateway);

  /** As gpu-gateway/gateway.ts: what an earlier boot left open is ended, what runs is adopted. */
  function boot(): void {
    epoch++;
    const { policies } = options;
    records.record({ type: "boot", cell: CELL, epoch, boot_id: `boot-${epoch}` });
    for (const call of records.open())
      records.record({
        type: "call_ended",
        call,
        outcome: "failed",
        code: "gateway_lost",
        tokens: { prompt: 0, cached: 0, completion: 0 },
      });
    for (const { node_id, gpus } of machines.nodes) {
      const provision_id = `provision-${node_id}`;
      records.record({ type: "node_provisioned", node: node_id, gpus: gpus.length, at: records.at(0), provision_id });
    }
    const started = new Gateway(
      {
        clock,
        machines,
        wire,
        records,
        tally,
        observe: observer.event?.bind(observer) ?? null,
        ended: (entry, outcome) => driver.ended(entry, outcome),
      },
      (options.scheduler ?? createScheduler)(typeof policies === "function" ? policies(epoch) : policies),
    );
    gateway = started;
    machines.listener = (event) => started.fleet.onMachines(event);
    started.start();
  }

  function crash(): boolean {
    if (gateway === null) return false;
    machines.listener = null;
    gateway.crash();
    gateway = null;
    return true;
  }

  boot();
  options.setup?.(worldOf({ clock, machines, wire, transfers, driver, gateway: () => gateway, boot, crash }));
  driver.next();
  const ended_because = passTime(options, clock, driver);
  if (gateway !== null && records.wanted) records.cut();
  const steps = machines.engines.reduce((sum, engine) => sum + engine.steps, 0);
  return {
    ended_because,
    virtual: clock.now as Micros,
    calls: driver.calls,
    instances: machines.engines.map(instanceTimes),
    token_gaps: tally.gaps(),
    engine_steps: steps,
    scheduler_events: tally.scheduler_events,
    output_tokens: driver.output_tokens,
  };
}

function passTime({ until, stop, observer }: RunOptions, clock: VirtualClock, driver: Driver): RunResult["ended_because"] {
  const end = until ?? Number.POSITIVE_INFINITY;
  for (let second = 0; !driver.done;) {
    const next = clock.nextAt();
    while (second <= next && second <= end) {
      observer?.clock?.(second as Micros);
      if (stop?.() === true) return "stopped";
      second += SECOND;
    }
    if (next > end) {
      clock.passTo(end);
      return "until";
    }
    clock.runNext();
  }
  return "clients_done";
}

function instanceTimes({
  instance_id,
  pool,
  profile,
  steps,
  busy_us,
  prefill_tokens,
  decode_tokens,
  model,
}: Machines["engines"][number]): InstanceTimes {
  return {
    instance: instance_id,
    role: pool.role,
    gpus: profile.gpus,
    steps,
    busy: busy_us as Micros,
    prefill_tokens,
    decode_tokens,
    preemptions: model.preemptions,
  };
}
