/**
 * The platform's limits on one Durable Object, which local workerd does not enforce; kept here so that what runs locally runs
 * deployed. Beyond each, work waits its turn.
 */
import { ACTIVE_WORKERS_PER_OBJECT_MAX, PENDING_CONNECTIONS_MAX } from "../../schema/core/wire/limits.ts";
import { Semaphore } from "./semaphore.ts";

export type ObjectLimits = {
  /** Loaded isolates with a run in them. */
  readonly workers: Semaphore;
  /** Outgoing requests that await their first answer: to other objects, the database. The link keeps to one of its own. */
  readonly connections: Semaphore;
};

/** The gateway link may be dialling beside these: it takes one place for good. */
const LINK_CONNECTIONS = 1;
const by_object = new WeakMap<DurableObjectState, ObjectLimits>();

export function objectLimits(ctx: DurableObjectState): ObjectLimits {
  let limits = by_object.get(ctx);
  if (!limits) {
    limits = {
      workers: new Semaphore(ACTIVE_WORKERS_PER_OBJECT_MAX),
      connections: new Semaphore(PENDING_CONNECTIONS_MAX - LINK_CONNECTIONS),
    };
    by_object.set(ctx, limits);
  }
  return limits;
}
