/**
 * Tenant fairness by virtual token counters (service-counters.ts): the tenant served least goes next, and which of its calls goes is
 * for the order inside to say: first the tenant, then the program. Fair within a model, since calls of different models do not
 * compete for one instance.
 *
 * It decides only between calls that wait here: a routing that places every call at once leaves it nothing to decide. While the head
 * waits for room the order may change under it; the new head is tried when something is freed, as ever.
 */
import type { TenantId } from "../../../schema/core/ids.ts";
import type { CallQueue, Ordering, Queued } from "../policies.ts";
import { ServiceCounters, type ServiceWeights } from "./service-counters.ts";

export type VtcOptions = {
  readonly weights: ServiceWeights;
  /** Which call of one tenant goes before another. */
  readonly inner: Ordering;
  /** Tenants remembered per model while they have no call (I8); see service-counters.ts for what happens at it. */
  readonly idle_tenants_max: number;
  /** Models with counters at most (I8): at it, one with nothing waiting nor running is forgotten; its tenants start anew. */
  readonly models_max: number;
};

/** An output token weighs two prompt tokens, a cached one a quarter of a computed one, as price lists of hosted models have it roughly. */
export const DEFAULT_SERVICE_WEIGHTS: ServiceWeights = { prompt: 4, cached: 1, output: 8 };

export function vtc(options: VtcOptions): Ordering {
  const { weights, inner, idle_tenants_max, models_max } = options;
  const models = new Map<string, ServiceCounters>();

  function countersOf(model: string): ServiceCounters {
    let counters = models.get(model);
    if (counters !== undefined) return counters;
    for (const [name, known] of models) {
      if (models.size < models_max) break;
      if (known.quiet) models.delete(name);
    }
    models.set(model, (counters = new ServiceCounters(weights, idle_tenants_max)));
    return counters;
  }

  return {
    queue: <Q extends Queued>(model: string) => new FairQueue<Q>(countersOf(model), () => inner.queue<Q>(model)),
    served(call, service) {
      inner.served(call, service);
      const counters = countersOf(call.model);
      switch (service.type) {
        case "placed":
          counters.placed(call, service.hit_tokens);
          return;
        case "output":
          counters.output(call.call_id, service.tokens);
          return;
        case "returned":
          counters.returned(call.call_id);
      }
    },
    finished(call, end) {
      inner.finished(call, end);
      countersOf(call.model).finished(call, end);
    },
  };
}

/** One queue a tenant. A call's place is where it would stand if tenants took turns from now on. */
class FairQueue<Q extends Queued> implements CallQueue<Q> {
  readonly #counters: ServiceCounters;
  readonly #make: () => CallQueue<Q>;
  readonly #queues = new Map<TenantId, CallQueue<Q>>();
  /** Tenants whose own queue has moved since the milestones were visited: theirs have come nearest. */
  readonly #moved = new Set<TenantId>();
  #size = 0;

  constructor(counters: ServiceCounters, make: () => CallQueue<Q>) {
    this.#counters = counters;
    this.#make = make;
  }

  get size(): number {
    return this.#size;
  }

  add(item: Q): void {
    const { tenant } = item.call;
    let queue = this.#queues.get(tenant);
    if (queue === undefined) this.#queues.set(tenant, (queue = this.#make()));
    queue.add(item);
    this.#size += 1;
    this.#counters.joined(tenant);
  }

  remove(item: Q): boolean {
    const { tenant } = item.call;
    const queue = this.#queues.get(tenant);
    if (queue === undefined || !queue.remove(item)) return false;
    this.#size -= 1;
    this.#counters.left(tenant);
    if (queue.size === 0) this.#queues.delete(tenant);
    else this.#moved.add(tenant);
    return true;
  }

  first(): Q | undefined {
    const least = this.#counters.least();
    return least === undefined ? undefined : this.#queues.get(least.tenant)?.first();
  }

  placeOf(item: Q): number {
    const { tenant } = item.call;
    return this.#counters.placeOf(tenant, this.#queues.get(tenant)?.placeOf(item) ?? 1);
  }

  visitMilestones(visit: (item: Q, place: number) => void): void {
    for (const tenant of this.#moved)
      this.#queues.get(tenant)?.visitMilestones((item, nth) => visit(item, this.#counters.placeOf(tenant, nth)));
    this.#moved.clear();
  }
}
