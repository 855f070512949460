/**
 * What Prometheus reads at /metrics. Labels are few and bounded: outcome codes from the catalogue, roles, instances, models,
 * cost centres; never a tenant, a call or a key.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Failure } from "../../schema/core/errors.ts";
import type { Micros } from "../../schema/core/time.ts";
import type { CallOutcome } from "../policy/vocabulary.ts";
import type { CallEntry } from "../runtime/calls.ts";
import type { RuntimeObserver } from "../runtime/runtime.ts";
import type { ShippedRows } from "../runtime/shipper-messages.ts";
import type { SchedulerSnapshot } from "../policy/scheduler.ts";

const SECONDS = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300];
const MICROS_PER_SECOND = 1_000_000;
/** A scrape of another format than this is the scraper's own mistake: Prometheus text 0.0.4. */
export const METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8";

export class Metrics implements RuntimeObserver {
  readonly registry = new Registry();
  readonly #calls = this.#counter("millrace_calls_total", "Calls that ended, by outcome and error code", ["model", "outcome", "code"]);
  readonly #rejected = this.#counter("millrace_calls_rejected_total", "Calls refused at the door, never queued", ["model", "code"]);
  readonly #tokens = this.#counter("millrace_tokens_total", "Tokens of calls that ended", ["model", "kind"]);
  readonly #legs = this.#counter("millrace_legs_started_total", "Legs started", ["role", "instance"]);
  readonly #anomalies = this.#counter("millrace_meter_anomalies_total", "Contradictions that the meter met", []);
  readonly #ttft = this.#histogram("millrace_time_to_first_token_seconds", "From arrival to the first token");
  readonly #duration = this.#histogram("millrace_call_duration_seconds", "From arrival to the end of the call");

  readonly #durable = new Histogram({
    name: "millrace_journal_durable_seconds",
    help: "From a call's record to its being on disk",
    buckets: [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5],
    registers: [this.registry],
  });
  readonly #gpu = this.#counter("millrace_gpu_nanoseconds_total", "GPU time that the ledger holds, by who it belongs to", ["cost_centre"]);
  #watermark_ns: bigint | null = null;

  constructor(cell: string) {
    this.registry.setDefaultLabels({ cell });
    // Event loop lag, heap, descriptors.
    collectDefaultMetrics({ register: this.registry, prefix: "millrace_" });
  }

  callEnded(entry: CallEntry, outcome: CallOutcome, now: Micros): void {
    const { model, arrived } = entry.call;
    const code = outcome.type === "done" ? "" : outcome.type === "cancelled" ? "cancelled" : outcome.failure.code;
    this.#calls.inc({ model, outcome: outcome.type, code });
    this.#duration.observe({ model }, (now - arrived) / MICROS_PER_SECOND);
    if (outcome.type !== "done") return;
    this.#tokens.inc({ model, kind: "prompt" }, outcome.usage.prompt_tokens);
    this.#tokens.inc({ model, kind: "cached" }, outcome.usage.cached_tokens);
    this.#tokens.inc({ model, kind: "completion" }, outcome.usage.completion_tokens);
  }
  callRejected(model: string, why: Failure): void {
    this.#rejected.inc({ model, code: why.code });
  }
  firstToken(entry: CallEntry, now: Micros): void {
    this.#ttft.observe({ model: entry.call.model }, (now - entry.call.arrived) / MICROS_PER_SECOND);
  }
  legStarted(role: string, instance: string): void {
    this.#legs.inc({ role, instance });
  }
  journaled(took: Micros): void {
    this.#durable.observe(took / MICROS_PER_SECOND);
  }
  anomaly(): void {
    this.#anomalies.inc();
  }

  shipped({ watermark, gpu_ns }: ShippedRows): void {
    this.#watermark_ns = watermark;
    for (const [cost_centre, quantity] of gpu_ns) this.#gpu.inc({ cost_centre }, quantity);
  }

  /** Read at each scrape. */
  watch(snapshot: () => SchedulerSnapshot, links: () => number): void {
    this.#gauge("millrace_queue_depth", "Calls queued", ["model"], (gauge) => {
      gauge.reset();
      for (const { model, queued } of snapshot().queues) gauge.set({ model }, queued);
    });
    this.#gauge("millrace_legs_active", "Legs in flight", ["role", "instance"], (gauge) => {
      gauge.reset();
      for (const { role, instance_id, legs } of snapshot().instances) gauge.set({ role, instance: instance_id }, legs);
    });
    this.#gauge("millrace_instances", "Instances by state", ["model", "role", "state"], (gauge) => {
      gauge.reset();
      for (const { model, role, states } of snapshot().pools)
        for (const [state, count] of Object.entries(states)) gauge.inc({ model, role, state }, count);
    });
    this.#gauge("millrace_kv_tokens", "Predicted KV in use", ["model", "role"], (gauge) => {
      gauge.reset();
      for (const { model, role, kv_tokens } of snapshot().pools) gauge.inc({ model, role }, kv_tokens);
    });
    this.#gauge("millrace_shipped_seconds_behind", "How long ago the ledger's watermark was", [], (gauge) => {
      if (this.#watermark_ns !== null) gauge.set(Math.max(0, Date.now() / 1_000 - Number(this.#watermark_ns / 1_000_000n) / 1_000));
    });
    this.#gauge("millrace_links_open", "Open links from the edge", [], (gauge) => gauge.set(links()));
  }

  #counter<L extends string>(name: string, help: string, labelNames: readonly L[]): Counter<L> {
    return new Counter({ name, help, labelNames, registers: [this.registry] });
  }
  #histogram(name: string, help: string): Histogram<"model"> {
    return new Histogram({ name, help, labelNames: ["model"], buckets: SECONDS, registers: [this.registry] });
  }
  #gauge<L extends string>(name: string, help: string, labelNames: readonly L[], collect: (gauge: Gauge<L>) => void): void {
    const gauge: Gauge<L> = new Gauge({ name, help, labelNames, registers: [this.registry], collect: () => collect(gauge) });
  }
}
