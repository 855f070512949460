/**
 * What tests of the runtime and of a leg share: an engine whose legs do what the test says, a meter whose disk answers when the
 * test says, and a scheduler that wants what the test says.
 */
import { asId } from "../../schema/core/ids.ts";
import { micros, nanos, type Micros } from "../../schema/core/time.ts";
import type { Effect } from "../policy/effects.ts";
import type { SchedulerEvent } from "../policy/events.ts";
import type { Engine, EngineProbe, Handover, LegDelta, LegRequest, LegSink } from "../ports/engine.ts";
import type { Provider, RunningGroup } from "../ports/provider.ts";
import type { CallRequest } from "./intake.ts";
import type { StartLeg } from "./leg-run.ts";
import type { MeterInput } from "./meter.ts";
import { Runtime } from "./runtime.ts";

export const MODEL = "llama-3-8b";
export const usage = { prompt_tokens: 10, cached_tokens: 0, completion_tokens: 3 };
export const handover: Handover = { engine: "p1", params: {}, expires_at_ms: Number.MAX_SAFE_INTEGER };
export const prefilled = { usage, finish_reason: "stop", handover };
export const answered = { usage, finish_reason: "stop", handover: null };
export const said = (content: string): LegDelta => ({ choice: 0, delta: { content }, tokens: 1, finish_reason: null });
/** What an engine says before it has computed anything. */
export const role: LegDelta = { choice: 0, delta: { role: "assistant", content: "" }, tokens: 0, finish_reason: null };

const PROBE: EngineProbe = {
  version: "test",
  kv_compat: "v1",
  models: [{ id: MODEL, context_tokens: 8_192 }],
  capabilities: { legs: "prefill_first", sleep: false, sleep_while_paired: false, priority: false, kv_events: false, cancel: true },
  slots: 4,
  kv_tokens: 100_000,
  kv_lease_ms: 30_000,
};

export class FakeEngine implements Engine {
  readonly protocol = "fake";
  readonly started: { readonly request: LegRequest; readonly sink: LegSink; cancelled: boolean }[] = [];

  start(request: LegRequest, sink: LegSink) {
    const leg = { request, sink, cancelled: false };
    this.started.push(leg);
    return { cancel: () => void (leg.cancelled = true) };
  }
  probe = () => Promise.resolve(PROBE);
  healthy = () => Promise.resolve(true);
  load = () => Promise.resolve({ running: 0, waiting: 0, kv_usage: 0 });
  sleep = () => Promise.resolve();
  wake = () => Promise.resolve();
  close(): void {}
}

/** Records are on disk when the test says so. */
export class LateMeter {
  readonly records: MeterInput[] = [];
  #disk = Promise.withResolvers<void>();

  record(input: MeterInput) {
    this.records.push(input);
    return nanos(0n);
  }
  durable = () => this.#disk.promise;
  synced(): void {
    this.#disk.resolve();
    this.#disk = Promise.withResolvers();
  }
}

const group = (id: string, role_of: "prefill" | "decode"): RunningGroup => ({
  group_id: asId<"group">(`grp_${id}`),
  node_id: asId<"node">("node_1"),
  model: MODEL,
  role: role_of,
  engine: "fake",
  gpu_indices: [0],
  instances: [{ instance_id: asId<"instance">(id), url: id, gpu_indices: [0] }],
  state: "ready",
  epoch: 1,
  ends_at: null,
});

const PROVIDER: Provider = {
  name: "none",
  open: () => Promise.resolve([]),
  launch: () => Promise.resolve({ type: "refused", reason: "none" }),
  stop: () => Promise.resolve(),
  renew: () => Promise.resolve([]),
  release: () => Promise.resolve([]),
  close: () => Promise.resolve(),
};

/** A runtime over one prefill (p1) and one decode instance (d1). `answer` is what the scheduler wants done at each event. */
export async function openRuntime(
  answer: (event: SchedulerEvent) => readonly Effect[],
  holds: () => boolean = () => true,
  log: (line: string) => void = () => undefined,
) {
  const engines = { p1: new FakeEngine(), d1: new FakeEngine() };
  const meter = new LateMeter();
  const events: SchedulerEvent[] = [];
  const clock = { now: micros(0), set: (to: Micros) => void (clock.now = to) };
  const runtime = new Runtime({
    scheduler: {
      handle(event) {
        events.push(event);
        return answer(event);
      },
    },
    meter,
    clock: { now: () => clock.now },
    fleet: {
      provider: PROVIDER,
      pools: [{ model: MODEL, role: "prefill", engine: "fake", gpus_per_group: 1 }],
      prefill_tokens_max: 8_192,
      engine: (_, url) => (url === "p1" ? engines.p1 : engines.d1),
    },
    observer: {
      callEnded: () => undefined,
      callRejected: () => undefined,
      firstToken: () => undefined,
      legStarted: () => undefined,
      journaled: () => undefined,
    },
    cacheSalt: (tenant) => tenant,
    max_tokens_default: 16,
    provisioned: () => undefined,
    holds,
    log,
  });
  await runtime.start([group("p1", "prefill"), group("d1", "decode")]);
  return { runtime, engines, meter, events, clock };
}

export const request = (id: string, content = "Hello"): CallRequest => ({
  call_id: asId<"call">(id),
  tags: {
    tenant: "ten_a",
    project: "prj_a",
    key: "key_a",
    model: MODEL,
    program: id,
    function: null,
    version: null,
    run: null,
    session: null,
    agent: null,
  },
  kind: "chat",
  body: { model: MODEL, messages: [{ role: "user", content }] },
  deadline_ms: 60_000,
  resumable: true,
});

export const startLeg = (call: string, role_of: "prefill" | "decode" | "whole", more: Partial<StartLeg> = {}): StartLeg => ({
  type: "start_leg",
  effect_id: `fx_${call}.${role_of}`,
  leg_id: asId<"leg">(`${call}.0.${role_of}`),
  call_id: asId<"call">(call),
  attempt: 0,
  role: role_of,
  instance_id: asId<"instance">(role_of === "prefill" ? "p1" : "d1"),
  from_leg: role_of === "decode" ? { leg_id: asId<"leg">(`${call}.0.prefill`), instance_id: asId<"instance">("p1") } : null,
  weight: 2,
  ...(role_of === "prefill" ? { holding_weight: 1 } : {}),
  accept_by: micros(25_000_000),
  ...more,
});
