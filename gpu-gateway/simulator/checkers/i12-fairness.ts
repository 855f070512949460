/**
 * I12: fairness is bounded. While two tenants both have calls waiting, what they are served differs by no more than twice the bound that
 * policy/ordering/service-counters.ts derives for estimated prompts. Service is counted here from what was started and what engines
 * reported. A prompt is counted whole when it is placed, for what the policy expects of the cache is its own affair: that widens the bound
 * by at most the discount on every prompt in flight, on either side.
 *
 * Waiting, as far as can be seen from outside: accepted and not yet placed for the first time. That misses calls that wait for another attempt, so
 * that stretches are cut shorter than they are, never longer.
 */
import type { CallId, LegId, TenantId } from "../../../schema/core/ids.ts";
import type { Micros } from "../../../schema/core/time.ts";
import type { Effect } from "../../policy/effects.ts";
import type { SchedulerEvent } from "../../policy/events.ts";
import type { ServiceWeights } from "../../policy/ordering/service-counters.ts";
import type { SchedulerSnapshot } from "../../policy/scheduler.ts";
import type { Call, LegUsage } from "../../policy/vocabulary.ts";
import { Books } from "./checker.ts";

type Live = { readonly call: Call; placed: boolean; charged: number; output: number; prompt_usage: LegUsage | null };

export class FairnessChecker extends Books {
  readonly invariant = "I12";
  readonly #weights: ServiceWeights | null;
  readonly #snapshot: () => SchedulerSnapshot | null;
  readonly #calls = new Map<CallId, Live>();
  readonly #legs = new Map<LegId, { readonly call: CallId; readonly answers: boolean }>();
  readonly #service = new Map<TenantId, number>();
  readonly #waiting = new Map<TenantId, number>();
  readonly #stretches = new Map<string, { least: number; greatest: number }>();
  #longest_prompt = 0;
  #longest_answer = 0;
  #slots = 0;

  /** Null: the order promises nothing. */
  constructor(weights: ServiceWeights | null, snapshot: () => SchedulerSnapshot | null) {
    super();
    this.#weights = weights;
    this.#snapshot = snapshot;
    this.unchecked_because = weights === null ? "its order promises no fairness" : "no two tenants had calls waiting at once";
  }

  gatewayDied(): void {
    this.#calls.clear();
    this.#legs.clear();
    this.#service.clear();
    this.#waiting.clear();
    this.#stretches.clear();
  }

  event(event: SchedulerEvent, effects: readonly Effect[], now: Micros): void {
    if (this.#weights === null) return;
    this.#told(event, effects, this.#weights);
    for (const effect of effects) this.#effect(effect, this.#weights);
    this.#look(now, this.#weights);
  }

  #told(event: SchedulerEvent, effects: readonly Effect[], weights: ServiceWeights): void {
    if (event.type === "call_arrived") {
      const { call } = event;
      if (this.#calls.has(call.call_id) || effects.some((effect) => effect.type === "reject")) return;
      this.#calls.set(call.call_id, { call, placed: false, charged: 0, output: 0, prompt_usage: null });
      add(this.#waiting, call.tenant, 1);
      this.#longest_prompt = Math.max(this.#longest_prompt, call.prompt_tokens);
      this.#longest_answer = Math.max(this.#longest_answer, call.max_tokens);
    } else if (event.type === "leg_first_token") this.#output(event.leg_id, 1, weights);
    else if (event.type === "leg_progress" || event.type === "leg_failed") this.#output(event.leg_id, event.tokens, weights);
    else if (event.type === "leg_finished") this.#finished(event.leg_id, event.usage, weights);
  }

  #output(leg_id: LegId, tokens: number, weights: ServiceWeights): void {
    const leg = this.#legs.get(leg_id);
    const live = leg === undefined ? undefined : this.#calls.get(leg.call);
    if (live === undefined || leg?.answers !== true || tokens <= live.output) return;
    add(this.#service, live.call.tenant, (tokens - live.output) * weights.output);
    live.output = tokens;
  }

  #finished(leg_id: LegId, usage: LegUsage, weights: ServiceWeights): void {
    const leg = this.#legs.get(leg_id);
    const live = leg === undefined ? undefined : this.#calls.get(leg.call);
    if (leg === undefined || live === undefined) return;
    if (leg.answers) this.#output(leg_id, usage.completion_tokens, weights);
    if (!leg.answers) live.prompt_usage = usage;
    else {
      const { prompt_tokens, cached_tokens } = live.prompt_usage ?? usage;
      const actual = (prompt_tokens - cached_tokens) * weights.prompt + cached_tokens * weights.cached;
      add(this.#service, live.call.tenant, actual - live.charged);
      live.charged = actual;
    }
  }

  #effect(effect: Effect, weights: ServiceWeights): void {
    if (effect.type === "start_leg") {
      const live = this.#calls.get(effect.call_id);
      this.#legs.set(effect.leg_id, { call: effect.call_id, answers: effect.role !== "prefill" });
      if (live === undefined || effect.role === "decode") return;
      if (!live.placed) add(this.#waiting, live.call.tenant, -1);
      live.placed = true;
      // An earlier attempt came to nothing, and is taken back.
      const charge = live.call.prompt_tokens * weights.prompt;
      add(this.#service, live.call.tenant, charge - live.charged - live.output * weights.output);
      live.charged = charge;
      live.output = 0;
    } else if (effect.type === "end_call") {
      const live = this.#calls.get(effect.call_id);
      if (live === undefined) return;
      if (!live.placed) add(this.#waiting, live.call.tenant, -1);
      this.#calls.delete(effect.call_id);
    }
  }

  #look(now: Micros, weights: ServiceWeights): void {
    const tenants = [...this.#waiting.keys()];
    if (tenants.length < 2) return;
    const bound = this.#bound(weights);
    for (const [i, a] of tenants.entries())
      for (const b of tenants.slice(i + 1)) {
        const key = `${a} ${b}`;
        if ((this.#waiting.get(a) ?? 0) === 0 || (this.#waiting.get(b) ?? 0) === 0) {
          this.#stretches.delete(key);
          continue;
        }
        const difference = (this.#service.get(a) ?? 0) - (this.#service.get(b) ?? 0);
        const stretch = this.#stretches.get(key) ?? { least: difference, greatest: difference };
        stretch.least = Math.min(stretch.least, difference);
        stretch.greatest = Math.max(stretch.greatest, difference);
        this.#stretches.set(key, stretch);
        const apart = stretch.greatest - stretch.least;
        this.check(apart <= bound, now, () => `${a} and ${b} both had calls waiting and were served ${apart} apart, at most ${bound}`);
      }
  }

  #bound(weights: ServiceWeights): number {
    for (const slots of [(this.#snapshot()?.instances ?? []).reduce((sum, one) => sum + one.slots, 0)])
      this.#slots = Math.max(this.#slots, slots);
    const derived = this.#slots * (2 * weights.prompt * this.#longest_prompt + weights.output * this.#longest_answer);
    const discount = this.#slots * (weights.prompt - weights.cached) * this.#longest_prompt;
    return 2 * derived + 2 * discount;
  }
}

const add = (sums: Map<TenantId, number>, key: TenantId, amount: number): void => void sums.set(key, (sums.get(key) ?? 0) + amount);
