/**
 * Queue up to a bound. A call is refused at the door when its deadline has passed, when no instance's context could hold it,
 * or when its model's queue is full; everything else waits for its turn (D4). A full queue answers with the time after which
 * a quarter of it has drained at the rate seen lately, so that refused clients come back when there is room.
 */
import { failure } from "../../../schema/core/errors.ts";
import type { Micros } from "../../../schema/core/time.ts";
import type { Admission, AdmissionDecision, InstanceView, QueueView } from "../policies.ts";
import type { Call } from "../vocabulary.ts";

export type BoundedQueueOptions = {
  /** Calls queued per model at most (I8): at it, `queue_full`. */
  readonly queued_per_model_max: number;
  /** What a refused client is told at least, at most, and while no drain has been seen yet. */
  readonly retry_after_min_ms: number;
  readonly retry_after_max_ms: number;
  readonly retry_after_unknown_ms: number;
  /** The drain rate is measured over windows of at least this length. */
  readonly drain_window: Micros;
  /** Models whose drain is remembered at most (I8): at it, the one asked for first is forgotten. */
  readonly models_max: number;
};

/** How fast one model's queue drains: calls that left it, whichever way, counted as admitted less still queued. */
type Drain = { admitted: number; since: Micros; left_at_start: number; per_second: number | null };

const MICROS_PER_SECOND = 1_000_000;
const SHARE_TO_DRAIN = 1 / 4;

export function boundedQueue(options: BoundedQueueOptions): Admission {
  const drains = new Map<string, Drain>();

  function drainOf(queue: QueueView): Drain {
    let drain = drains.get(queue.model);
    if (drain === undefined) {
      for (const oldest of drains.keys()) {
        if (drains.size < options.models_max) break;
        drains.delete(oldest);
      }
      drain = { admitted: queue.queued, since: queue.now, left_at_start: 0, per_second: null };
      drains.set(queue.model, drain);
    }
    const left = drain.admitted - queue.queued;
    const elapsed = queue.now - drain.since;
    if (elapsed >= options.drain_window) {
      drain.per_second = Math.max(0, ((left - drain.left_at_start) * MICROS_PER_SECOND) / elapsed);
      drain.since = queue.now;
      drain.left_at_start = left;
    }
    return drain;
  }

  function retryAfter(queue: QueueView, drain: Drain): number {
    if (drain.per_second === null) return options.retry_after_unknown_ms;
    if (drain.per_second === 0) return options.retry_after_max_ms;
    const estimate = Math.ceil((queue.queued * SHARE_TO_DRAIN * 1_000) / drain.per_second);
    return Math.min(options.retry_after_max_ms, Math.max(options.retry_after_min_ms, estimate));
  }

  return {
    admit(call: Call, queue: QueueView, instances: readonly InstanceView[]): AdmissionDecision {
      if (call.deadline <= queue.now) return reject("deadline_exceeded", "the deadline had passed when the call arrived", 0);
      const context = largestContext(instances);
      const needed = call.prompt_tokens + call.max_tokens;
      if (context !== null && needed > context)
        return reject("context_too_long", `prompt and answer need ${needed} tokens; the context is ${context}`, 0);
      const drain = drainOf(queue);
      if (queue.queued >= options.queued_per_model_max)
        return reject("queue_full", `${queue.queued} calls are queued for this model`, retryAfter(queue, drain));
      drain.admitted += 1;
      return { type: "queue" };
    },
  };
}

const reject = (code: Parameters<typeof failure>[0], detail: string, retry_after_ms: number): AdmissionDecision => ({
  type: "reject",
  failure: failure(code, detail),
  retry_after_ms,
});

/** Null while nothing that serves the model is known: then the call waits, and routing decides once something is. */
function largestContext(instances: readonly InstanceView[]): number | null {
  let largest: number | null = null;
  for (const view of instances) {
    if (view.state === "lost") continue;
    if (largest === null || view.instance.context_tokens > largest) largest = view.instance.context_tokens;
  }
  return largest;
}
