/**
 * One run of a workload against one configuration, judged as it goes: as soon as more calls have missed the SLO than the target
 * allows, whatever the rest do, the run is over (`hopeless`). A call still under way counts as missed once its end would come too late
 * for both parts of the SLO.
 *
 * Short-run bias. The first calls meet an empty cluster, so a share of them (`warm_up_share`) is not counted. The last ones meet a
 * cluster that empties; they are counted, which flatters a short run: a queue that grows slowly needs a long run to be seen.
 */
import { micros } from "../../../schema/core/time.ts";
import type { SchedulerConfig } from "../../policy/scheduler.ts";
import type { CallShape } from "../traces/calls.ts";
import type { Arrival, CallTimes, Clients, RunOptions, RunResult } from "../types.ts";
import type { Candidate } from "./candidates.ts";
import { type Figures, figuresOf, type Price } from "./figures.ts";
import { judge, overdueAt, type Slo } from "./slo.ts";
import type { Workload } from "./workload.ts";

export type Runner = (options: RunOptions) => RunResult;

export type MeasureOptions = {
  readonly runner: Runner;
  readonly workload: Workload;
  readonly policies: (candidate: Candidate) => SchedulerConfig;
  readonly slo: Slo;
  readonly price: Price;
  readonly seed: number;
  readonly warm_up_share: number;
  readonly patience_us: number;
  readonly until_us: number | null;
};

export type Measured = {
  /** `hopeless`: ended early because the target was out of reach; its figures are of what had ended by then. */
  readonly ended: "complete" | "hopeless" | "stopped";
  readonly met: boolean;
  readonly figures: Figures;
  readonly result: RunResult;
  readonly counted: readonly CallTimes[];
};

export type Watch = {
  /** Called once a virtual second. */
  readonly progress: (ended: number, total: number, virtual_us: number) => void;
  readonly stop: () => boolean;
};

export function measure(candidate: Candidate, multiple: number, options: MeasureOptions, watch: Watch, to_the_end: boolean): Measured {
  const { workload, slo } = options;
  const total = workload.calls(multiple);
  const warm_up = Math.floor(total * options.warm_up_share);
  const misses_max = Math.floor((total - warm_up) * (1 - slo.attainment) + 1e-9);
  const book = new Book(warm_up, slo);
  let hopeless = false;
  const shape: CallShape = {
    model: candidate.cluster.pools[0]?.model ?? "",
    context_tokens: Math.min(...candidate.cluster.pools.map((pool) => pool.context_tokens)),
    patience: micros(options.patience_us),
  };
  let now_us = 0;
  const result = options.runner({
    cluster: candidate.cluster,
    policies: () => options.policies(candidate),
    clients: book.watched(workload.clients(multiple, shape)),
    seed: options.seed,
    observer: {
      callEnded: (times) => book.ended(times),
      clock(now) {
        now_us = now;
        watch.progress(book.ended_count, total, now);
      },
    },
    ...(options.until_us === null ? {} : { until: micros(options.until_us) }),
    stop() {
      hopeless = !to_the_end && book.missedBy(now_us) > misses_max;
      return hopeless || watch.stop();
    },
  });
  const counted = result.calls.filter((times) => book.counts(times.call.call_id));
  const figures = figuresOf(result, counted, candidate, slo, options.price);
  const stopped = result.ended_because === "stopped";
  const met = !stopped && counted.length > 0 && figures.attainment >= slo.attainment;
  return { ended: hopeless ? "hopeless" : stopped ? "stopped" : "complete", met, figures, result, counted };
}

/** Who has arrived, who has ended, who has missed. */
class Book {
  readonly #warm_up: number;
  readonly #slo: Slo;
  readonly #under_way = new Map<string, { readonly overdue_at: number; missed: boolean }>();
  /** The warm-up's calls: the first to be sent. */
  readonly #uncounted = new Set<string>();
  #arrived = 0;
  #misses = 0;
  ended_count = 0;

  constructor(warm_up: number, slo: Slo) {
    this.#warm_up = warm_up;
    this.#slo = slo;
  }

  watched(clients: Clients): Clients {
    const seen = (arrival: Arrival): Arrival => {
      const { call, output_tokens } = arrival.sim;
      if (this.#arrived++ < this.#warm_up) this.#uncounted.add(call.call_id);
      else this.#under_way.set(call.call_id, { overdue_at: overdueAt(arrival.at, output_tokens, this.#slo), missed: false });
      return arrival;
    };
    return {
      first() {
        const arrival = clients.first();
        return arrival === null ? null : seen(arrival);
      },
      ended: (call, outcome, at) => clients.ended(call, outcome, at).map(seen),
    };
  }

  counts(call_id: string): boolean {
    return !this.#uncounted.has(call_id);
  }

  ended(times: CallTimes): void {
    this.ended_count++;
    const entry = this.#under_way.get(times.call.call_id);
    if (entry === undefined) return;
    this.#under_way.delete(times.call.call_id);
    if (!entry.missed && !judge(times, this.#slo).both) this.#misses++;
  }

  missedBy(now_us: number): number {
    for (const entry of this.#under_way.values()) {
      if (entry.missed || entry.overdue_at >= now_us) continue;
      entry.missed = true;
      this.#misses++;
    }
    return this.#misses;
  }
}
