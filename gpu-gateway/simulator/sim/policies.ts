/** The policies of a scenario: names from the catalogue, the scenario's limits, and, for a planted bug, one answer made wrong. */
import { choosePolicies, DEFAULT_PARAMETERS } from "../../policy/catalogue.ts";
import type { Admission, CallQueue, Elasticity, Ordering, Queued } from "../../policy/policies.ts";
import type { ServiceWeights } from "../../policy/ordering/service-counters.ts";
import { SortedList } from "../../policy/ordering/sorted-list.ts";
import type { SchedulerConfig } from "../../policy/scheduler.ts";
import type { Plant } from "./plants.ts";
import { type Scenario, targetsOf } from "./scenario.ts";

export type PolicyChoice = {
  readonly admission: string;
  readonly ordering: string;
  readonly routing: string;
  readonly cache: string;
  readonly seed: number;
  readonly ttft_ms_max: number;
};

/** What the order promises tenants; null: nothing (I12). */
export const fairnessOf = ({ ordering }: PolicyChoice): ServiceWeights | null =>
  ordering === "vtc" ? DEFAULT_PARAMETERS.service_weights : null;

export function policiesOf(scenario: Scenario, epoch: number, plant: Plant | null): SchedulerConfig {
  const { policies, cluster, limits, queued_per_model_max } = scenario;
  const targets = targetsOf(scenario, epoch);
  const { admission, ordering, routing, cache, seed, ttft_ms_max } = policies;
  const choice = choosePolicies(
    { admission, ordering, routing, cache },
    {
      scope: `cell_sim/${epoch}`,
      targets: cluster.pools.map(({ model, role }, n) => ({ model, role, groups: targets[n] ?? 0 })),
      queued_per_model_max,
      limits,
      parameters: { seed, ttft_ms_max },
    },
  );
  if (choice.type === "faults") throw new Error(`the scenario's policies cannot be had: ${choice.faults.join("; ")}`);
  const { config } = choice;
  if (plant === "I7") return { ...config, elasticity: forgetsWhatLaunches(config.elasticity) };
  if (plant === "I8") return { ...config, admission: takesEverything };
  if (plant === "I9") return { ...config, ordering: ordersByWhoAsks() };
  if (plant === "I12") return { ...config, ordering: favoursOne(config.ordering) };
  return config;
}

// ── planted bugs

/** A group that is being launched does not count: each question while it loads launches another. */
function forgetsWhatLaunches(elasticity: Elasticity): Elasticity {
  return {
    plan: (groups, queues, now) =>
      elasticity.plan(
        groups.filter(({ state }) => state !== "launching"),
        queues,
        now,
      ),
  };
}

const takesEverything: Admission = { admit: () => ({ type: "queue" }) };

let made = 0;
/** State that is shared between schedulers: every other one serves the last first. */
function ordersByWhoAsks(): Ordering {
  made += 1;
  const sign = made % 2 === 0 ? 1 : -1;
  return {
    queue: <Q extends Queued>(): CallQueue<Q> =>
      new SortedList<Q>(({ call: a }, { call: b }) => sign * (a.arrived - b.arrived || (a.call_id < b.call_id ? -1 : 1))),
    served: () => undefined,
    finished: () => undefined,
  };
}

/** What the tenant whose name comes first is served is not counted. */
function favoursOne(ordering: Ordering): Ordering {
  let favoured: string | null = null;
  return {
    queue: (model) => ordering.queue(model),
    served(call, service) {
      if (favoured === null || call.tenant < favoured) favoured = call.tenant;
      if (call.tenant !== favoured) ordering.served(call, service);
    },
    finished: (call, end) => ordering.finished(call, call.tenant === favoured ? { ...end, usage: null } : end),
  };
}

/** Long enough to be met by an idle cluster, short enough to be missed by a full one. */
export const TTFT_OBJECTIVES_MS = [2_000, 10_000, 60_000] as const;
