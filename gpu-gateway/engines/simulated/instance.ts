/**
 * Drives the engine model in real time: one timer for the step in progress, whatever the number of streams.
 *
 * Real time times `speed` is model time. A step begins where the last one ended, so that timers firing late cost no throughput;
 * after a stall longer than LAG_MS the lost time is not made up. Listeners hear their token when the step is done.
 */
import { EngineModel } from "../../engine-model/engine.ts";
import type { EngineRequest, Sequence } from "../../engine-model/engine.ts";
import { sleepUs, wakeUs } from "../../engine-model/profile.ts";
import type { KvPeer } from "./kv-channel.ts";
import type { Faults } from "./faults.ts";
import type { Options } from "./flags.ts";
import type { RemoteKv } from "./request.ts";
import { Transfers } from "./transfers.ts";
import type { Party } from "./transfers.ts";

const LAG_MS = 50;
const STEPS_PER_TURN = 32; // then the event loop gets its turn
/** vLLM's decode renews a lease by 20 s every 5 s while a request waits; here in the lease's proportion. */
const HEARTBEAT_SHARE = 1 / 6;
const RENEWAL_SHARE = 2 / 3;

/** `cached`: prompt tokens found in the prefix cache. */
export type Emitted = { readonly id: string; readonly index: number; readonly last: boolean; readonly cached: number };
/** Its tokens are told when it is done. */
type StepInFlight = { readonly done_at: number; readonly tokens: readonly Emitted[] };

export type Listener = {
  token(token: Emitted): void;
  /** The engine gave the request up: nothing more comes. */
  failed(reason: "kv_lost" | "aborted" | "engine_dead"): void;
};

export type Awake = "awake" | "going" | "asleep" | "waking";

export class Instance {
  readonly options: Options;
  readonly model: EngineModel;
  readonly faults: Faults;
  state: "loading" | "ready" | "dead" = "loading";
  awake: Awake = "awake";
  sleep_level: 1 | 2 = 1;
  /** Called once when the engine core dies. */
  onDeath: () => void = () => {};
  readonly counters = { requests: 0, aborted: 0, kv_pulled: 0, kv_expired: 0, kv_failed: 0, prompt_tokens: 0, generation_tokens: 0 };
  readonly #transfers: Transfers;
  #peer: KvPeer;
  #listeners = new Map<string, Listener>();
  #remotes = new Map<string, RemoteKv>();
  /** In the order in which they are done; as many as there are pipeline stages, at most. */
  #steps: StepInFlight[] = [];
  /** When the first stage is free. */
  #next_at = 0;
  /** Nothing to compute that is not in flight, as far as was known when last asked. */
  #idle = true;
  #timer: NodeJS.Timeout | null = null;
  #turning = false;
  #lease_timer: NodeJS.Timeout;
  #heartbeat: NodeJS.Timeout;

  constructor(options: Options, faults: Faults, peer: KvPeer) {
    this.options = options;
    this.faults = faults;
    this.#peer = peer;
    this.#transfers = new Transfers(
      () => this.now(),
      (model_us) => this.realMs(model_us),
    );
    this.model = new EngineModel(options.profile, options);
    this.#lease_timer = setInterval(() => this.expire(), Math.min(1_000, Math.max(5, options.kv_lease_ms / 20)));
    this.#heartbeat = setInterval(() => this.#beat(), Math.max(5, options.kv_lease_ms * HEARTBEAT_SHARE));
  }

  /** Model time, in microseconds. */
  now(): number {
    return performance.now() * 1_000 * this.options.speed;
  }

  realMs(model_us: number): number {
    return model_us / 1_000 / this.options.speed;
  }

  submit(request: EngineRequest, remote: RemoteKv | null, listener: Listener): void {
    if (this.state === "dead") return listener.failed("engine_dead");
    this.counters.prompt_tokens += request.prompt_tokens;
    this.#listeners.set(request.id, listener);
    if (remote !== null) this.#remotes.set(request.id, remote);
    this.model.add(request);
    this.#kick();
  }

  /** The client went away. Frees all that the request had here, and tells the prefill instance. */
  abort(id: string): void {
    if (!this.#listeners.delete(id)) return;
    this.counters.aborted++;
    this.#transfers.cancel(id);
    if (!this.model.abort(id)) this.model.releaseHeld(id);
    this.#releaseRemote(id);
    this.#kick(); // its blocks may let another one in
  }

  /** The answer of a prefill leg goes out now: its blocks are leased from here. */
  lease(id: string): readonly number[] {
    const blocks = this.model.blocksOf(id);
    this.model.lease(id, this.#leaseEnd(1));
    return blocks;
  }

  /** A decode instance asks for held blocks. False: not here, not these, or the lease has ended. They pass to `puller` from now on. */
  pull(request_id: string, block_ids: readonly number[], puller: Party | null, bytes: number): boolean {
    this.expire();
    const held = this.model.blocksOf(request_id);
    if (held.length === 0 || held.some((id, index) => block_ids[index] !== id)) return false;
    if (puller !== null) void this.#transfers.begin(request_id, this.#party(), puller, bytes);
    return this.model.lease(request_id, this.#leaseEnd(RENEWAL_SHARE));
  }

  /** The decode instance has all that came over its links; ours may be slower. */
  async finish(request_id: string): Promise<void> {
    await this.#transfers.over(request_id);
    this.release(request_id);
  }

  renew(request_ids: readonly string[]): void {
    this.expire();
    for (const id of request_ids) this.model.lease(id, this.#leaseEnd(RENEWAL_SHARE));
  }

  release(request_id: string): void {
    this.#transfers.cancel(request_id);
    if (this.model.releaseHeld(request_id)) this.#kick();
  }

  expire(): void {
    const ended = this.model.expire(this.now());
    this.counters.kv_expired += ended.length;
    if (ended.length > 0) this.#kick();
  }

  async sleep(level: 1 | 2): Promise<void> {
    if (this.awake !== "awake") return;
    this.awake = "going";
    this.sleep_level = level;
    for (const id of this.model.dropAll()) this.#fail(id, "aborted");
    await this.#pass(sleepUs(this.options.profile, level));
    this.awake = "asleep";
  }

  async wake(): Promise<void> {
    if (this.awake !== "asleep") return;
    this.awake = "waking";
    await this.#pass(wakeUs(this.options.profile, this.sleep_level));
    this.awake = "awake";
    this.#kick();
  }

  /** The engine core dies, as vLLM's does on malformed hand-over parameters: every request fails, /health is 503. */
  die(): void {
    if (this.state === "dead") return;
    this.state = "dead";
    this.model.dropAll();
    for (const id of this.#listeners.keys()) this.#fail(id, "engine_dead");
    this.close();
    this.onDeath();
  }

  close(): void {
    clearInterval(this.#lease_timer);
    clearInterval(this.#heartbeat);
    this.#transfers.close();
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  #kick(): void {
    this.#mayBegin(this.now());
    if (this.#turning || this.#steps.at(-1)?.done_at === this.#next_at) return; // with one stage the timer is set for then
    this.#turning = true;
    setImmediate(() => this.#turn());
  }

  #turn(): void {
    this.#turning = false;
    if (this.#timer !== null) clearTimeout(this.#timer);
    for (let steps = 0; steps < STEPS_PER_TURN; steps++) {
      const now = this.now();
      const done_at = this.#steps[0]?.done_at ?? Number.POSITIVE_INFINITY;
      const due = this.#idle ? done_at : Math.min(done_at, this.#next_at);
      if (due > now) return due === Number.POSITIVE_INFINITY ? undefined : this.#arm(due - now);
      if (done_at <= now) this.#stepDone();
      if (this.state === "dead" || this.awake !== "awake") return;
      if (!this.#idle && this.#next_at <= now) this.#begin(this.realMs(now - due) < LAG_MS ? due : now);
    }
    this.#turning = true;
    setImmediate(() => this.#turn());
  }

  #stepDone(): void {
    const step = this.#steps.shift();
    if (step === undefined) return;
    this.#mayBegin(step.done_at);
    for (const token of step.tokens) this.#deliver(token);
  }

  /** No step begins before there was something to compute. */
  #mayBegin(since: number): void {
    if (this.#idle) this.#next_at = Math.max(this.#next_at, since);
    this.#idle = false;
  }

  #begin(at: number): void {
    this.model.slowdown = this.faults.slowdown;
    const { pulls, emitters, done_at, next_at } = this.model.step(at);
    for (const pull of pulls) void this.#receive(pull);
    this.#idle = done_at === null;
    if (done_at === null) return;
    this.#next_at = next_at;
    const tokens = emitters.map(({ id, emitted, ended, cached }) => ({ id, index: emitted - 1, last: ended, cached }));
    this.#steps.push({ done_at, tokens });
  }

  #arm(model_us: number): void {
    this.#timer = setTimeout(() => this.#turn(), this.realMs(model_us));
  }

  #deliver(token: Emitted): void {
    const listener = this.#listeners.get(token.id);
    if (listener === undefined) return;
    this.counters.generation_tokens++;
    if (token.last) this.#listeners.delete(token.id);
    listener.token(token);
  }

  async #receive(pull: Sequence): Promise<void> {
    const bytes = pull.pull_tokens * this.options.profile.kv_bytes_per_token;
    const remote = this.#remotes.get(pull.id);
    if (remote === undefined) return;
    const outcome = await this.#peer.pull(remote, this.#party(), bytes);
    if (outcome.type === "refused") return this.#lost(pull.id);
    if (!this.#remotes.has(pull.id)) return; // aborted meanwhile
    const passed = await this.#transfers.begin(pull.id, { engine_id: remote.engine_id, gpus: remote.gpus }, this.#party(), bytes);
    if (passed === "refused") return this.#lost(pull.id);
    if (passed === "cancelled") return;
    // Only an acknowledged end proves that the other side was there to be read from until the end.
    const done = await this.#peer.done(remote);
    if (done.type === "refused") return this.#lost(pull.id);
    if (!this.#remotes.delete(pull.id)) return;
    this.counters.kv_pulled++;
    this.model.received(pull.id);
    this.#kick();
  }

  #lost(id: string): void {
    if (!this.#remotes.has(id)) return; // aborted meanwhile
    this.counters.kv_failed++;
    this.model.abort(id);
    this.#fail(id, "kv_lost");
    this.#kick();
  }

  #fail(id: string, reason: "kv_lost" | "aborted" | "engine_dead"): void {
    const listener = this.#listeners.get(id);
    this.#listeners.delete(id);
    this.#releaseRemote(id);
    listener?.failed(reason);
  }

  #releaseRemote(id: string): void {
    const remote = this.#remotes.get(id);
    if (remote === undefined) return;
    this.#remotes.delete(id);
    this.#transfers.cancel(id);
    void this.#peer.drop(remote);
  }

  #beat(): void {
    for (const remote of this.#remotes.values()) void this.#peer.renew(remote);
  }

  #party(): Party {
    return { engine_id: this.options.engine_id, gpus: this.options.profile.gpus };
  }

  #leaseEnd(share: number): number {
    return this.now() + this.options.kv_lease_ms * share * 1_000 * this.options.speed;
  }

  #pass(model_us: number): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, this.realMs(model_us)));
  }
}
