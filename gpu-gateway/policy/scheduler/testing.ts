/** What tests of policy share: calls, instances and views with plain defaults, and a scheduler with its hand on the clock. */
import { asId } from "../../../schema/core/ids.ts";
import { type Micros, micros, microsFromMs } from "../../../schema/core/time.ts";
import { type BaselineOptions, baselinePolicies } from "../defaults.ts";
import type { Effect } from "../effects.ts";
import type { SchedulerEvent } from "../events.ts";
import type { InstanceView } from "../policies.ts";
import { createScheduler, type Scheduler, type SchedulerConfig } from "../scheduler.ts";
import type { Call, Capabilities, Instance, InstanceState, Role } from "../vocabulary.ts";

export const MODEL = "llama-3-8b";
export const second = (n: number): Micros => microsFromMs(n * 1_000);

type CallInit = Partial<Omit<Call, "call_id" | "arrived" | "deadline">> & { arrived?: number; deadline?: number };
export const makeCall = (id: string, init: CallInit = {}): Call => ({
  call_id: asId<"call">(id),
  tenant: asId<"tenant">("ten_a"),
  program: asId<"program">("prg_a"),
  agent: null,
  model: MODEL,
  prompt_tokens: 100,
  max_tokens: 50,
  splittable: true,
  ...init,
  arrived: micros(init.arrived ?? 0),
  deadline: micros(init.deadline ?? second(600)),
});

export const CAPABILITIES: Capabilities = {
  legs: "prefill_first",
  sleep: true,
  sleep_while_paired: false,
  priority: false,
  kv_events: false,
  cancel: true,
};

type InstanceInit = Partial<Omit<Instance, "instance_id" | "group_id" | "node_id">> & { node?: string; group?: string };
export const makeInstance = (id: string, role: Role, { node = "node_1", group = `grp_${id}`, ...init }: InstanceInit = {}): Instance => ({
  instance_id: asId<"instance">(id),
  group_id: asId<"group">(group),
  node_id: asId<"node">(node),
  model: MODEL,
  role,
  kv_compat: "v1",
  gpus: 1,
  capabilities: CAPABILITIES,
  slots: 4,
  kv_tokens: 100_000,
  prefill_tokens_max: 8_192,
  context_tokens: 8_192,
  kv_lease: second(30),
  ...init,
});

export const makeView = (instance: Instance, books: Partial<Omit<InstanceView, "instance">> = {}): InstanceView => ({
  instance,
  state: "ready",
  legs: 0,
  reserved: 0,
  prefill_tokens: 0,
  prefill_due: micros(0),
  deferred_pulls: 0,
  kv_tokens: 0,
  ...books,
});

type OfType<T extends Effect["type"]> = Extract<Effect, { type: T }>;

/** A scheduler at a clock that the test moves; remembers all effects. */
export class Desk {
  readonly scheduler: Scheduler;
  readonly all: Effect[] = [];
  now: Micros = micros(0);

  constructor(options: Partial<BaselineOptions> = {}, config: Partial<SchedulerConfig> = {}) {
    this.scheduler = createScheduler({ ...baselinePolicies({ scope: "cell_a/1", targets: [], ...options }), ...config });
  }

  at(now: Micros): this {
    this.now = now;
    return this;
  }

  send(event: SchedulerEvent): readonly Effect[] {
    const effects = this.scheduler.handle(event, this.now);
    this.all.push(...effects);
    return effects;
  }

  timer(): readonly Effect[] {
    return this.send({ type: "timer" });
  }

  /** Adopts the instances, ready at once, and says that adoption is over. */
  up(...instances: readonly Instance[]): this {
    for (const instance of instances) {
      this.send({ type: "group_launched", group_id: instance.group_id, instances: [instance] });
      this.enter(instance.instance_id, "ready");
    }
    this.timer();
    return this;
  }

  enter(id: string, state: InstanceState): readonly Effect[] {
    return this.send({ type: "instance_state", instance_id: asId<"instance">(id), state });
  }

  arrive(id: string, init: CallInit = {}): readonly Effect[] {
    return this.send({ type: "call_arrived", call: makeCall(id, { arrived: this.now, ...init }) });
  }

  cancel(id: string, reason = "client_gone"): readonly Effect[] {
    return this.send({ type: "call_cancelled", call_id: asId<"call">(id), reason });
  }

  accepted(leg: string): readonly Effect[] {
    return this.send({ type: "leg_accepted", leg_id: asId<"leg">(leg) });
  }

  firstToken(leg: string): readonly Effect[] {
    return this.send({ type: "leg_first_token", leg_id: asId<"leg">(leg) });
  }

  finished(leg: string, completion_tokens = 1, cached_tokens = 0): readonly Effect[] {
    return this.send({
      type: "leg_finished",
      leg_id: asId<"leg">(leg),
      usage: { prompt_tokens: 100, cached_tokens, completion_tokens },
      finish_reason: "stop",
    });
  }

  failed(leg: string, cause: "connect" | "stream_cut" | "kv_lost" | "rejected" = "stream_cut", tokens = 0): readonly Effect[] {
    const code = cause === "rejected" ? "engine_rejected" : "engine_failed";
    return this.send({ type: "leg_failed", leg_id: asId<"leg">(leg), error: { cause, failure: { code, detail: cause } }, tokens });
  }

  cancelled(leg: string, tokens = 0): readonly Effect[] {
    return this.send({ type: "leg_cancelled", leg_id: asId<"leg">(leg), tokens });
  }

  released(leg: string): readonly Effect[] {
    return this.send({ type: "kv_released", leg_id: asId<"leg">(leg) });
  }
}

export function ofType<T extends Effect["type"]>(effects: readonly Effect[], type: T): readonly OfType<T>[] {
  return effects.filter((effect): effect is OfType<T> => effect.type === type);
}

/** Effects told briefly, one line each, without what most tests do not ask about. */
export function brief(effects: readonly Effect[]): readonly string[] {
  return effects.filter((effect) => effect.type !== "wake_at").map(line);
}

function line(effect: Effect): string {
  switch (effect.type) {
    case "start_leg":
      return `start ${effect.leg_id} on ${effect.instance_id}`;
    case "cancel_leg":
      return `cancel ${effect.leg_id}: ${effect.reason}`;
    case "reserve_decode":
      return `reserve ${effect.instance_id} for ${effect.call_id}`;
    case "release_decode":
      return `release ${effect.instance_id} for ${effect.call_id}`;
    case "reject":
      return `reject ${effect.call_id}: ${effect.failure.code}`;
    case "progress":
      return `progress ${effect.call_id}: ${effect.position}`;
    case "end_call": {
      const { outcome } = effect;
      const what = outcome.type === "done" ? outcome.finish_reason : outcome.type === "cancelled" ? outcome.reason : outcome.failure.code;
      return `end ${effect.call_id}: ${outcome.type} ${what}`;
    }
    case "launch_group":
      return `launch ${effect.model} ${effect.role}`;
    case "stop_group":
      return `stop ${effect.group_id}${effect.drain ? " by drain" : ""}`;
    case "wake_at":
    default:
      return `wake at ${effect.at}`;
  }
}
