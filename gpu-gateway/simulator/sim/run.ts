/**
 * One run of a scenario: the cluster with the real scheduler, sessions over lossy links, books and money around it, the faults, and a
 * checker for each invariant.
 *
 * Two phases. Until `heals_at` faults happen and clients do what they planned: whatever comes of it, the invariants hold. From then on
 * nothing goes wrong any more and nobody begins a call: within `liveness` every call is over and told, every pool is whole, nothing is
 * held, everything is in the ledger.
 */
import type { Micros } from "../../../schema/core/time.ts";
import type { CallOutcome } from "../../policy/vocabulary.ts";
import { asId } from "../../../schema/core/ids.ts";
import { LINK_BUFFER_FRAMES_MAX } from "../../../schema/core/wire/limits.ts";
import type { Checker, Invariant, RunObserver, Verdict } from "../checkers/checker.ts";
import { GpuTimeChecker } from "../checkers/i1-gpu-time.ts";
import { CallsChecker } from "../checkers/i2-calls.ts";
import { TenantsChecker } from "../checkers/i3-tenants.ts";
import { SessionLogChecker } from "../checkers/i4-session-log.ts";
import { MoneyChecker } from "../checkers/i5-money.ts";
import { UsageChecker } from "../checkers/i6-usage.ts";
import { LaunchesChecker } from "../checkers/i7-launches.ts";
import { LimitsChecker } from "../checkers/i8-limits.ts";
import { SameEffectsChecker } from "../checkers/i9-same-effects.ts";
import { FairnessChecker } from "../checkers/i12-fairness.ts";
import { DEFAULT_LIMITS } from "../../policy/scheduler/limits.ts";
import { runCluster } from "../cluster.ts";
import type { FaultKind } from "../faults/fault.ts";
import { schedule } from "../faults/schedule.ts";
import { GatewayDoor } from "../sessions/door.ts";
import { FRAMES_UNDER_WAY_MAX, type LinkClock } from "../sessions/link.ts";
import type { Clients, World } from "../types.ts";
import { ScenarioClients } from "./clients.ts";
import { SimMeter } from "./meter.ts";
import { SimMoney, tenantId, worstCharge } from "./money.ts";
import { all } from "./observers.ts";
import type { Plant } from "./plants.ts";
import { plantedRow, plantedScheduler, plantedShipment } from "./planted.ts";
import { fairnessOf, policiesOf } from "./policies.ts";
import { type Scenario, targetsOf } from "./scenario.ts";
import { hits } from "./hits.ts";

/** Events of one run at most: a world that makes more is going in circles. */
export const EVENTS_MAX = 2_000_000;
/** How often the books, the doors and the end are looked after. */
const TICK = 100_000;

export type RunOutcome =
  | { readonly type: "ok" }
  /** Nothing went wrong because nothing that was planned to go wrong did. */
  | { readonly type: "inconclusive" }
  | { readonly type: "broken"; readonly invariant: Invariant; readonly at: Micros; readonly words: string; readonly events: number }
  | { readonly type: "liveness"; readonly at: Micros; readonly words: string; readonly events: number }
  /** An exception: a bug, wherever it is. */
  | { readonly type: "threw"; readonly at: Micros; readonly words: string; readonly events: number };

export type RunReport = {
  readonly seed: number;
  readonly outcome: RunOutcome;
  readonly verdicts: Readonly<Partial<Record<Invariant, Verdict>>>;
  readonly fired: Readonly<Partial<Record<FaultKind, number>>>;
  readonly ended: Readonly<Partial<Record<CallOutcome["type"] | "rejected", number>>>;
  readonly events: number;
  readonly records: number;
  readonly virtual: Micros;
};

export type RunSettings = {
  readonly plant?: Plant | null;
  /** Hears every event with its effects, as one line. */
  readonly said?: (line: string) => void;
};

export function runScenario(scenario: Scenario, settings: RunSettings = {}): RunReport {
  return new ScenarioRun(scenario, settings).run();
}

const NOBODY: Clients = { first: () => null, ended: () => [] };

class ScenarioRun {
  readonly #scenario: Scenario;
  readonly #plant: Plant | null;
  readonly #checkers: readonly Checker[];
  readonly #told: Required<RunObserver>;
  readonly #same: SameEffectsChecker;
  readonly #meter: SimMeter;
  readonly #money: SimMoney;
  readonly #door: GatewayDoor;
  readonly #clients: ScenarioClients;
  readonly #clock: LinkClock = { now: () => this.#now, at: (at, act) => this.#at(at, act) };
  readonly #fired: Partial<Record<FaultKind, number>> = {};
  readonly #ended: Partial<Record<CallOutcome["type"] | "rejected", number>> = {};
  #world: World | null = null;
  #epoch = 0;
  #events = 0;
  #now = 0 as Micros;
  #healed = false;
  #over = false;
  #outcome: RunOutcome | null = null;

  constructor(scenario: Scenario, { plant = null, said = () => undefined }: RunSettings) {
    this.#scenario = scenario;
    this.#plant = plant;
    const { cluster, limits } = scenario;
    const clock = this.#clock;
    this.#same = new SameEffectsChecker((epoch) => plantedScheduler(plant, policiesOf(scenario, epoch, plant)), said);
    const snapshot = () => this.#same.snapshot();
    this.#checkers = [
      this.#same,
      new CallsChecker(limits.cancel_bound ?? DEFAULT_LIMITS.cancel_bound),
      new TenantsChecker(),
      new SessionLogChecker(),
      new MoneyChecker(),
      new LaunchesChecker(cluster, (epoch) => targetsOf(scenario, epoch), limits.stop_bound ?? 0),
      new LimitsChecker({
        snapshot,
        buffers: () => this.#buffers(),
        queued_per_model_max: scenario.queued_per_model_max,
        deferred_pulls_max: limits.deferred_pulls_max ?? 0,
      }),
      new FairnessChecker(fairnessOf(scenario.policies), snapshot),
      new UsageChecker(scenario.seed),
      new GpuTimeChecker(),
    ];
    this.#told = all(this.#checkers);
    this.#meter = new SimMeter({
      now: () => this.#now,
      journal_delay: scenario.journal_delay,
      shipment_rows_max: scenario.shipment_rows_max,
      journalled: (record) => {
        if (record.type === "call_ended") this.#money.ended(record);
        this.#told.journalled(record, this.#now);
      },
      shipped: (rows) => this.#told.shipped(rows, this.#now),
      folded: (row) => plantedRow(plant, row),
      sending: (rows, shipment) => plantedShipment(plant, rows, shipment),
    });
    const largest = worstCharge({ prompt_tokens: 2_048, max_tokens: 200 });
    this.#money = new SimMoney({
      budgets: Object.fromEntries(Object.entries(scenario.budgets).map(([name, calls]) => [tenantId(name), BigInt(calls) * largest])),
      told: (transfer, word) => this.#told.money(transfer, word, this.#now),
      unbounded: plant === "I5",
    });
    this.#door = new GatewayDoor({
      clock,
      journal_delay: scenario.journal_delay,
      callOf: (frame) => this.#clients.simCall(asId<"call">(frame.call), frame.context.deadline_ms, this.#now),
      hold: ({ call }) => this.#money.hold(call),
      submit: (sim) => this.#world?.submit(sim),
      cancel: (call, reason) => this.#world?.cancelCall(call, reason),
      produced: (call, tokens) => this.#told.session({ type: "produced", call, tokens }, this.#now),
    });
    this.#clients = new ScenarioClients(scenario, {
      clock,
      door: this.#door,
      tell: (fact) => this.#told.session(fact, this.#now),
      stopped: () => this.#healed,
      salted: plant !== "I3",
      cursor_before_store: plant === "I4",
    });
  }

  run(): RunReport {
    const { cluster, seed } = this.#scenario;
    try {
      const result = runCluster({
        cluster,
        seed,
        clients: NOBODY,
        policies: (epoch) => {
          this.#gatewayStarts(epoch);
          return policiesOf(this.#scenario, epoch, this.#plant);
        },
        scheduler: (config) => plantedScheduler(this.#plant, config),
        observer: this.#observer(),
        setup: (world) => this.#setup(world),
        stop: () => this.#over,
      });
      this.#now = result.virtual;
    } catch (error) {
      const words = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.#outcome ??= { type: "threw", at: this.#now, words, events: this.#events };
    }
    this.#outcome ??= { type: "liveness", at: this.#now, words: "the world came to a halt", events: this.#events };
    return {
      seed,
      outcome: this.#outcome,
      verdicts: Object.fromEntries(this.#checkers.map((checker) => [checker.invariant, checker.verdict()])),
      fired: this.#fired,
      ended: this.#ended,
      events: this.#events,
      records: this.#meter.records,
      virtual: this.#now,
    };
  }

  #observer(): RunObserver {
    return {
      event: (event, effects, now) => {
        this.#now = now;
        this.#events += 1;
        if (this.#over) return;
        this.#told.event(event, effects, now);
        for (const effect of effects) {
          if (effect.type === "reject") this.#money.release(effect.call_id);
          const how = effect.type === "reject" ? "rejected" : effect.type === "end_call" ? effect.outcome.type : null;
          if (how !== null) this.#ended[how] = (this.#ended[how] ?? 0) + 1;
        }
        this.#door.observe(event, effects);
        this.#judge();
      },
      record: (record) => this.#meter.record(record),
      kvRead: (read) => this.#told.kvRead(read),
      callEnded: (times) => this.#told.callEnded(times),
      clock: (now) => {
        this.#now = now;
        this.#told.clock(now);
      },
    };
  }

  #setup(world: World): void {
    this.#world = world;
    this.#clients.start();
    const { sessions, clients } = this.#clients;
    const gatewayRestart = (down: Micros): boolean => this.#restartGateway(world, down);
    const targets = hits({ clock: this.#clock, meter: this.#meter, sessions, clients, gatewayRestart });
    schedule(
      this.#scenario.faults,
      (at, act) => this.#at(at, act),
      world,
      targets,
      (kind) => {
        this.#fired[kind] = (this.#fired[kind] ?? 0) + 1;
      },
    );
    this.#at(this.#scenario.heals_at, () => (this.#healed = true));
    this.#tick();
  }

  #restartGateway(world: World, down: Micros): boolean {
    if (!this.#door.alive) return false;
    this.#door.died();
    this.#meter.died();
    this.#told.gatewayDied(this.#now);
    return world.restartGateway(down);
  }

  #gatewayStarts(epoch: number): void {
    this.#epoch = epoch;
    // What an earlier one had accepted was ended with its journal; what it had not journalled was never taken.
    this.#money.releaseAll();
    this.#told.gatewayStarted(epoch, this.#now);
    this.#door.started();
  }

  #tick(): void {
    if (this.#over) return;
    this.#meter.tick();
    this.#door.sweep();
    this.#judge();
    if (this.#healed) this.#lookForTheEnd();
    this.#at((this.#now + TICK) as Micros, () => this.#tick());
  }

  #lookForTheEnd(): void {
    const { heals_at, liveness } = this.#scenario;
    const waits = this.#whatIsLeft();
    const left = waits ?? (this.#meter.settle() ? null : "not every row is in the ledger");
    if (left === null) return this.#end();
    // Behind a clock that was set back, the books wait until it has caught up.
    if (this.#now <= heals_at + liveness + (waits === null ? this.#meter.set_back : 0)) return;
    this.#finish({ type: "liveness", at: this.#now, words: left, events: this.#events });
  }

  /** Null: all has come to its end. */
  #whatIsLeft(): string | null {
    const snapshot = this.#same.snapshot();
    if (snapshot === null) return "the gateway has not started again";
    const session = this.#clients.sessions.find(({ over }) => !over);
    if (session !== undefined) return session.standing;
    const client = this.#clients.clients.find(({ behind }) => behind !== null);
    if (client !== undefined) return client.behind;
    const { calls, legs, holding, reservations } = snapshot;
    if (calls + legs + holding + reservations > 0)
      return `${calls} calls, ${legs} legs, ${holding} held prefills, ${reservations} reservations are left`;
    const targets = targetsOf(this.#scenario, this.#epoch);
    for (const [n, { role }] of this.#scenario.cluster.pools.entries()) {
      const there = snapshot.instances.filter((one) => one.role === role);
      const ready = there.filter(({ state }) => state === "ready").length;
      if (ready !== targets[n] || there.length !== ready)
        return `${ready} ready of ${there.length} ${role} instances, where ${targets[n]} are wanted`;
    }
    if (this.#money.held > 0) return `${this.#money.held} calls still hold money`;
    return null;
  }

  #end(): void {
    const { cluster } = this.#scenario;
    for (let node = 0; node < cluster.nodes; node++) this.#told.provisioned(cluster.gpus_per_node, this.#meter.provisioned_ns);
    this.#told.refolded(this.#meter.refold(), this.#now);
    for (const checker of this.#checkers) checker.end(this.#now);
    this.#judge();
    const fired = Object.keys(this.#fired).length > 0;
    this.#finish({ type: fired ? "ok" : "inconclusive" });
  }

  #judge(): void {
    if (this.#over) return;
    for (const checker of this.#checkers) {
      const verdict = checker.verdict();
      if (verdict.type !== "broken") continue;
      const { at, words } = verdict;
      return this.#finish({ type: "broken", invariant: checker.invariant, at, words, events: this.#events });
    }
    if (this.#events > EVENTS_MAX)
      this.#finish({ type: "liveness", at: this.#now, words: `more than ${EVENTS_MAX} events`, events: this.#events });
  }

  #finish(outcome: RunOutcome): void {
    this.#outcome ??= outcome;
    this.#over = true;
  }

  #buffers() {
    const { kept, under_way } = this.#door.fullest;
    const { waiting } = this.#meter;
    return [
      { name: "frames kept of a call", size: kept, max: LINK_BUFFER_FRAMES_MAX },
      { name: "frames under way on a link", size: under_way, max: FRAMES_UNDER_WAY_MAX },
      // A shipment is closed at the record that reaches the limit; a cut gives a row for each share and leg at most.
      { name: "rows of a shipment", size: waiting, max: this.#scenario.shipment_rows_max + 1_000 },
    ];
  }

  /** Whatever is called back knows what time it is. */
  #at(at: Micros, act: () => void): void {
    this.#world?.at(at, () => {
      if (this.#world !== null) this.#now = this.#world.now();
      if (!this.#over) act();
    });
  }
}
