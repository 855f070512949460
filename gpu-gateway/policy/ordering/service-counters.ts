/**
 * The counters of one model: what each tenant has been served, in weighted tokens, by the algorithm VTC of Sheng et al., "Fairness
 * in Serving Large Language Models" (OSDI 2024). The corrections, and a floor that never falls because of them, are ours.
 *
 *  - Placed: the prompt is charged, by what is known of it then. Output is charged as it is reported. At the end the prompt's
 *    charge is corrected to what the engine counted; an attempt that came to nothing is taken back.
 *  - A tenant that comes back to the queue is lifted to the floor: the greatest value that the least counter among the waiting has
 *    had; and, where nobody waits, to the counter of the tenant who left last. What it left unused while away is gone.
 *
 * The bound (I12). Let S calls of the model be in flight at most (the slots of its instances), Lp and Lo be the longest prompt and
 * answer, w the weights. For any two tenants that both have calls waiting throughout an interval, what they are served in it
 * differs by at most 2·D, with
 *
 *      D = w_prompt·Lp + w_output·S·Lo            when prompts are known exactly when they are placed,
 *      D = S·(2·w_prompt·Lp + w_output·Lo)        when they are estimated and corrected at the end.
 *
 * Why. Within the interval counters move by service alone, so it is enough that the counters of two waiting tenants i and j never
 * differ by more than D. Let t′ be the last time that i was chosen; its counter was then the least, so no greater than the floor F,
 * which never falls. Since then i has only been charged for what was in flight just after t′: one new prompt and the rest of at most
 * S answers (or, with corrections, S whole calls). So c_i ≤ F + w_prompt·Lp + w_output·S·Lo (or F + S·(w_prompt·Lp + w_output·Lo)).
 * If i was lifted after t′, the same holds from there without the prompt. And c_j ≥ F, for j waited when the floor got its value,
 * or was lifted to it later; corrections may have taken back since then what was charged for prompts in flight at that time, at
 * most S·w_prompt·Lp. KV is a second limit on what is in flight: S·Lo may be read as the answer tokens that fit the instances.
 *
 * What is remembered (I8): tenants with calls waiting or in flight, whom admission and the slots bound; and `idle_tenants_max`
 * others whose counter is above the floor. At it the one idle for longest is forgotten: it comes back at the floor, ahead by what it
 * had been served above it, once. A tenant at or below the floor loses nothing by being forgotten.
 */
import type { CallId, TenantId } from "../../../schema/core/ids.ts";
import type { ServiceEnd } from "../policies.ts";
import type { Call } from "../vocabulary.ts";
import { Account, AccountHeap, servedLess } from "./account-heap.ts";

/** What a token weighs. Integers, so that counters are exact. */
export type ServiceWeights = { readonly prompt: number; readonly cached: number; readonly output: number };

type InFlight = { readonly account: Account; prompt: number; output_tokens: number };

export class ServiceCounters {
  readonly #weights: ServiceWeights;
  readonly #idle_tenants_max: number;
  readonly #accounts = new Map<TenantId, Account>();
  readonly #waiting = new AccountHeap();
  /** Longest idle first. */
  readonly #idle = new Set<Account>();
  readonly #in_flight = new Map<CallId, InFlight>();
  #floor = 0;
  #last_to_leave: Account | null = null;

  constructor(weights: ServiceWeights, idle_tenants_max: number) {
    this.#weights = weights;
    this.#idle_tenants_max = idle_tenants_max;
  }

  /** Nobody waits and nothing runs. */
  get quiet(): boolean {
    return this.#waiting.least() === undefined && this.#in_flight.size === 0;
  }

  get tenants(): number {
    return this.#accounts.size;
  }

  get waiting(): readonly Account[] {
    return this.#waiting.all;
  }

  least(): Account | undefined {
    return this.#waiting.least();
  }

  counterOf(tenant: TenantId): number | null {
    return this.#accounts.get(tenant)?.counter ?? null;
  }

  /** One more call of this tenant waits. */
  joined(tenant: TenantId): void {
    const account = this.#account(tenant);
    account.queued += 1;
    if (account.queued > 1) return;
    this.#idle.delete(account);
    const lowest = this.#waiting.least() ?? this.#last_to_leave;
    this.#floor = Math.max(this.#floor, lowest?.counter ?? 0);
    account.counter = Math.max(account.counter, this.#floor);
    this.#waiting.add(account);
  }

  /** One fewer, whatever becomes of it. */
  left(tenant: TenantId): void {
    const account = this.#account(tenant);
    account.queued -= 1;
    if (account.queued > 0) return;
    this.#waiting.remove(account);
    this.#last_to_leave = account;
  }

  placed({ call_id, tenant, prompt_tokens }: Call, hit_tokens: number): void {
    const account = this.#account(tenant);
    // It was the least of those who waited, or it would not have been chosen.
    this.#floor = Math.max(this.#floor, account.counter);
    const prompt = this.#promptCharge(prompt_tokens, hit_tokens);
    this.#in_flight.set(call_id, { account, prompt, output_tokens: 0 });
    this.#idle.delete(account);
    account.running += 1;
    this.#charge(account, prompt);
  }

  output(call_id: CallId, tokens: number): void {
    const flight = this.#in_flight.get(call_id);
    if (flight === undefined || tokens <= flight.output_tokens) return;
    const more = tokens - flight.output_tokens;
    flight.output_tokens = tokens;
    this.#charge(flight.account, more * this.#weights.output);
  }

  returned(call_id: CallId): void {
    const flight = this.#land(call_id);
    if (flight !== null) this.#charge(flight.account, -flight.prompt - flight.output_tokens * this.#weights.output);
  }

  finished(call: Call, { usage }: ServiceEnd): void {
    if (usage !== null) {
      const prompt = this.#promptCharge(usage.prompt_tokens, usage.cached_tokens);
      this.output(call.call_id, usage.completion_tokens);
      const flight = this.#in_flight.get(call.call_id);
      if (flight !== undefined) this.#charge(flight.account, prompt - flight.prompt);
    }
    this.#land(call.call_id);
    const account = this.#accounts.get(call.tenant);
    if (account !== undefined) this.#restIfIdle(account);
  }

  /** How many go before the n-th call of this tenant, and itself, if all who wait take turns, the least served first. */
  placeOf(tenant: TenantId, nth: number): number {
    const account = this.#account(tenant);
    let place = nth;
    for (const other of this.#waiting.all)
      if (other !== account) place += Math.min(other.queued, servedLess(other, account) ? nth : nth - 1);
    return place;
  }

  #promptCharge(prompt_tokens: number, cached_tokens: number): number {
    const cached = Math.min(cached_tokens, prompt_tokens);
    return (prompt_tokens - cached) * this.#weights.prompt + cached * this.#weights.cached;
  }

  #charge(account: Account, weight: number): void {
    if (weight === 0) return;
    account.counter += weight;
    this.#waiting.moved(account);
  }

  #land(call_id: CallId): InFlight | null {
    const flight = this.#in_flight.get(call_id);
    if (flight === undefined) return null;
    this.#in_flight.delete(call_id);
    flight.account.running -= 1;
    return flight;
  }

  #account(tenant: TenantId): Account {
    let account = this.#accounts.get(tenant);
    if (account === undefined) this.#accounts.set(tenant, (account = new Account(tenant)));
    return account;
  }

  #restIfIdle(account: Account): void {
    if (account.queued > 0 || account.running > 0) return;
    if (account.counter <= this.#floor) {
      this.#forget(account);
      return;
    }
    this.#idle.delete(account);
    this.#idle.add(account);
    for (const longest of this.#idle) {
      if (this.#idle.size <= this.#idle_tenants_max) break;
      this.#forget(longest);
    }
  }

  #forget(account: Account): void {
    this.#idle.delete(account);
    this.#accounts.delete(account.tenant);
  }
}
