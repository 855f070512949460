/**
 * One engine instance, as a state machine over model time. No clock: whoever drives it (a server in real time, a simulator in
 * virtual time) says what time it is and comes back when the step is done.
 *
 * Batching is by iteration (Orca, OSDI 22): each step computes whatever runs now. With `chunked` batching (Sarathi-Serve, OSDI 24;
 * vLLM's V1 engine) a step takes one token of each decoding sequence first, then chunks of prompts, at most `step_tokens` in all; a
 * prompt's blocks are taken chunk by chunk. With `prefill_first` (vLLM's V0 engine, DistServe's prefill instances) a step computes
 * either whole prompts, as many as go into `step_tokens` and at least one, or one token of each decoding sequence.
 *
 * A request is *waiting* until a sequence slot and blocks are free, then its prompt is computed; the last chunk yields the first
 * token, each later step one more. A remote request *receives* its KV instead, all its blocks taken, and computes only the last prompt
 * token. When memory runs out for a growing sequence, the one of lowest priority that came last gives its blocks back and computes its
 * prompt and its own tokens again; one that is receiving is left alone. A finished request with `hold` keeps its blocks until it is
 * released or its lease ends.
 *
 * Pipeline stages: the profile's step time is the latency through all of them, and `stageUs` when the first is free for the next step.
 * A step takes at most its share, decoding ÷ stages, of the sequences that decode; one that is in flight is in no other step. Chunks of
 * one prompt follow each other through the stages. Stages are taken as equally long.
 */
import { BLOCK_TOKENS, KvBlocks } from "./kv-blocks.ts";
import { prefillPairs, stageUs, stepUs } from "./profile.ts";
import type { ModelProfile } from "./profile.ts";
import { before, Sequence, type EngineRequest } from "./sequence.ts";
import { StepBook, type Step } from "./step-book.ts";
import { Waiting } from "./waiting.ts";

export type { EngineRequest, Sequence } from "./sequence.ts";
export type { Step } from "./step-book.ts";

export type EngineLimits = {
  readonly kv_tokens: number;
  /** Sequences that run at once (vLLM's max_num_seqs). */
  readonly sequences: number;
  /** Tokens computed in one step (vLLM's max_num_batched_tokens). At least `sequences`. */
  readonly step_tokens: number;
  /** Absent: `chunked`. */
  readonly batching?: "chunked" | "prefill_first";
};

type Held = { readonly blocks: readonly number[]; lease_ends: number | null };

export class EngineModel<R extends EngineRequest = EngineRequest> {
  readonly profile: ModelProfile;
  readonly limits: EngineLimits;
  readonly kv: KvBlocks<R>;
  /** Multiplies step times: 1 is the model, more is a slow machine (fault injection). */
  slowdown = 1;
  preemptions = 0;
  prefix_queries = 0;
  prefix_hits = 0;
  /** Told when a sequence is first admitted with blocks that others computed. */
  on_cache_hit: ((sequence: Sequence<R>, blocks: number) => void) | null = null;
  readonly #stages: number;
  readonly #whole_prompts: boolean;
  /** All that wait or run. Bounded by what the caller adds; running ones by `sequences`. */
  readonly #sequences = new Map<string, Sequence<R>>();
  readonly #waiting = new Waiting<R>();
  /** Each in order of priority and arrival. A member that left by another way (`#left`) is dropped before it may come back. */
  readonly #prefilling: Sequence<R>[] = [];
  readonly #decoding: Sequence<R>[] = [];
  readonly #held = new Map<string, Held>();
  readonly #step = new StepBook<R>();
  #running = 0;
  #added = 0;
  #now = 0;
  #preempted_now = false;
  #left = false;

  constructor(profile: ModelProfile, limits: EngineLimits) {
    if (limits.step_tokens < limits.sequences)
      throw new RangeError(`a step of ${limits.step_tokens} tokens has no room for ${limits.sequences} sequences: raise step_tokens`);
    this.profile = profile;
    this.limits = limits;
    this.kv = new KvBlocks(limits.kv_tokens);
    this.#stages = profile.pp;
    this.#whole_prompts = limits.batching === "prefill_first";
  }

  get running(): number {
    return this.#running;
  }
  get waiting(): number {
    return this.#sequences.size - this.#running;
  }
  get held(): number {
    return this.#held.size;
  }

  /** The caller has checked that prompt and answer fit into memory at all; else this one would wait for ever. */
  add(request: R): void {
    if (request.prompt_tokens < 1 || request.output_tokens < 1) throw new RangeError("a request has at least one token each way");
    if (request.prompt_tokens + request.output_tokens > this.kv.total * BLOCK_TOKENS) throw new RangeError("longer than KV memory");
    const sequence = new Sequence(request, this.#added++);
    this.#sequences.set(request.id, sequence);
    this.#waiting.add(sequence);
  }

  /** Frees everything of a request that waits, runs or receives; false when there is none (it has ended). */
  abort(id: string): boolean {
    const sequence = this.#sequences.get(id);
    if (sequence === undefined) return false;
    if (sequence.state !== "waiting") this.#running--;
    this.#left = true;
    this.#sequences.delete(id);
    sequence.state = "gone";
    this.kv.release(sequence.blocks);
    return true;
  }

  /** The KV that it pulls has arrived: of a remote request all but the last token need no computing, of another what was fetched. */
  received(id: string): void {
    const sequence = this.#sequences.get(id);
    if (sequence?.state !== "receiving") return; // aborted meanwhile, or said twice
    const { remote, fetch_tokens } = sequence;
    sequence.remote = false;
    sequence.fetch_tokens = 0;
    if (remote) {
      sequence.computed = sequence.request.prompt_tokens - 1;
      this.#publish(sequence, sequence.keys.count);
      return this.#enter(sequence, "decoding", this.#decoding);
    }
    sequence.computed = fetch_tokens;
    sequence.cached = fetch_tokens;
    this.#publish(sequence, Math.min(Math.floor(fetch_tokens / BLOCK_TOKENS), sequence.keys.count));
    this.#enter(sequence, "prefilling", this.#prefilling);
  }

  /** The KV that it pulls does not come, and it computes its prompt itself. */
  notReceived(id: string): void {
    const sequence = this.#sequences.get(id);
    if (sequence?.state !== "receiving") return;
    sequence.remote = false;
    sequence.fetch_tokens = 0;
    this.#enter(sequence, "prefilling", this.#prefilling);
  }

  /** Tokens of a prompt's beginning that lie in the prefix cache now. */
  cachedTokens(keys: Sequence<R>["keys"]): number {
    return this.kv.cachedPrefix(keys, keys.count) * BLOCK_TOKENS;
  }

  /** Blocks of a running or held request, in order. */
  blocksOf(id: string): readonly number[] {
    return this.#held.get(id)?.blocks ?? this.#sequences.get(id)?.blocks ?? [];
  }

  /** From now the lease of a held request runs to `lease_ends`. False when it is not held (any more). */
  lease(id: string, lease_ends: number): boolean {
    const held = this.#held.get(id);
    if (held === undefined) return false;
    held.lease_ends = Math.max(held.lease_ends ?? 0, lease_ends);
    return true;
  }

  releaseHeld(id: string): boolean {
    const held = this.#held.get(id);
    if (held === undefined) return false;
    this.#held.delete(id);
    this.kv.release(held.blocks);
    return true;
  }

  /** Releases what outlived its lease at `now`; their ids. */
  expire(now: number): string[] {
    const ended: string[] = [];
    for (const [id, held] of this.#held) if (held.lease_ends !== null && held.lease_ends <= now) ended.push(id);
    for (const id of ended) this.releaseHeld(id);
    return ended;
  }

  /** Begins an iteration at `now`. What it gives is valid until the next one. */
  step(now: number): Step<R> {
    const step = this.#step;
    step.begin(this.limits.step_tokens);
    this.#now = now;
    this.#preempted_now = false;
    if (this.#left) this.#dropThoseWhoLeft();
    if (!this.#whole_prompts) this.#decode();
    this.#prefill();
    // Whoever just gave its blocks back would take them again from those that needed them.
    if (!this.#preempted_now) this.#admit();
    if (this.#whole_prompts && step.tokens === 0) this.#decode();
    for (const sequence of step.finished) this.#finish(sequence);
    if (step.tokens === 0) return step;
    const us = Math.round(stepUs(this.profile, step.work) * this.slowdown);
    step.done_at = now + us;
    step.next_at = this.#stages === 1 ? step.done_at : now + Math.max(1, Math.round(stageUs(this.profile, step.work) * this.slowdown));
    if (this.#stages > 1) for (const sequence of step.emitters) sequence.busy_until = step.done_at;
    return step;
  }

  /** Sleep: all KV is dropped, cached, held and in use. Ids of what was thrown out. */
  dropAll(): string[] {
    const dropped = [...this.#sequences.keys()];
    for (const id of dropped) this.abort(id);
    for (const id of this.#held.keys()) this.releaseHeld(id);
    this.kv.forget();
    return dropped;
  }

  /** One token of each that decodes. */
  #decode(): void {
    const step = this.#step;
    const list = this.#decoding;
    let share = this.#stages === 1 ? list.length : Math.ceil(list.length / this.#stages);
    let kept = 0;
    for (let index = 0; index < list.length; index++) {
      const sequence = list[index];
      if (sequence?.state !== "decoding") continue;
      list[kept++] = sequence;
      if (share === 0 || sequence.busy_until > this.#now) continue;
      const { computed, blocks } = sequence;
      if (blocks.length * BLOCK_TOKENS <= computed && !this.#makeRoom(sequence, blocks.length + 1)) {
        if (!stillIn(sequence, "decoding")) kept--;
        continue;
      }
      share--;
      sequence.computed = computed + 1;
      step.decoded(sequence, computed + 1);
      if (sequence.emitted >= sequence.request.output_tokens) kept--;
    }
    list.length = kept;
  }

  /** Chunks of prompts that have begun. */
  #prefill(): void {
    const list = this.#prefilling;
    let kept = 0;
    for (let index = 0; index < list.length; index++) {
      const sequence = list[index];
      if (sequence?.state !== "prefilling") continue;
      list[kept++] = sequence;
      const fresh = Math.min(sequence.length - sequence.computed, this.#step.budget);
      if (fresh === 0) continue;
      if (this.#makeRoom(sequence, blocksFor(sequence.computed + fresh))) this.#compute(sequence, fresh);
      if (!stillIn(sequence, "prefilling")) kept--;
    }
    list.length = kept;
  }

  /** From the queue, as long as there is room: strictly in order, so that none starves. */
  #admit(): void {
    const { kv } = this;
    const step = this.#step;
    for (let next = this.#waiting.first(); next !== undefined; next = this.#waiting.first()) {
      if (this.#running >= this.limits.sequences || (step.budget === 0 && next.fetch_tokens === 0)) return;
      if (next.refused_at === kv.changes) return;
      const { request, keys } = next;
      // The last prompt token is always computed: its logits are the first answer.
      const shared = kv.cachedPrefix(keys, Math.floor((request.prompt_tokens - 1) / BLOCK_TOKENS));
      const computed = shared * BLOCK_TOKENS;
      const missing = next.length - computed;
      const fetches = next.fetch_tokens > computed;
      if (!fetches && (step.budget <= 0 || (this.#whole_prompts && missing > step.budget && step.tokens > 0))) return;
      const fresh = fetches ? 0 : this.#whole_prompts ? missing : Math.min(missing, step.budget);
      const blocks = kv.take(keys, shared, blocksFor(fetches ? next.fetch_tokens : computed + fresh), request);
      if (blocks === null) {
        next.refused_at = kv.changes;
        return;
      }
      this.#waiting.removeFirst();
      this.#running++;
      next.blocks = blocks;
      next.computed = computed;
      next.published = shared;
      if (next.cached < 0) {
        next.cached = computed;
        this.prefix_queries += request.prompt_tokens;
        this.prefix_hits += computed;
        if (shared > 0) this.on_cache_hit?.(next, shared);
      }
      if (fetches) {
        next.state = "receiving";
        next.pull_tokens = next.fetch_tokens - computed;
        step.pulls.push(next);
        continue;
      }
      next.state = "prefilling";
      this.#compute(next, fresh);
      if (stillIn(next, "prefilling")) this.#enter(next, "prefilling", this.#prefilling);
    }
  }

  /** Computes `fresh` tokens, for which there are blocks; the last of a prompt brings a token. */
  #compute(sequence: Sequence<R>, fresh: number): void {
    this.#step.prefilled(sequence, fresh, prefillPairs(sequence.computed, fresh));
    sequence.computed += fresh;
    this.#publish(sequence, Math.min(Math.floor(sequence.computed / BLOCK_TOKENS), sequence.keys.count));
    if (sequence.computed < sequence.length) return;
    this.#step.emitted(sequence);
    if (sequence.ended) sequence.state = "gone";
    else this.#enter(sequence, "decoding", this.#decoding);
  }

  #publish(sequence: Sequence<R>, to: number): void {
    if (to <= sequence.published) return;
    this.kv.publish(sequence.blocks, sequence.keys, sequence.published, to);
    sequence.published = to;
  }

  #enter(sequence: Sequence<R>, state: "prefilling" | "decoding", list: Sequence<R>[]): void {
    sequence.state = state;
    let place = list.length;
    for (let other = list[place - 1]; other !== undefined && before(sequence, other); other = list[place - 1]) list[place--] = other;
    list[place] = sequence;
  }

  #dropThoseWhoLeft(): void {
    for (const [list, state] of [
      [this.#decoding, "decoding"],
      [this.#prefilling, "prefilling"],
    ] as const) {
      let kept = 0;
      for (const sequence of list) if (sequence.state === state) list[kept++] = sequence;
      list.length = kept;
    }
    this.#left = false;
  }

  #finish(sequence: Sequence<R>): void {
    sequence.state = "gone";
    this.#running--;
    this.#sequences.delete(sequence.id);
    if (sequence.request.hold) this.#held.set(sequence.id, { blocks: sequence.blocks, lease_ends: null });
    else this.kv.release(sequence.blocks);
  }

  /** Blocks for a growing sequence, preempting others if need be; false when it does not get them in this step. */
  #makeRoom(sequence: Sequence<R>, blocks: number): boolean {
    while (!this.kv.extend(sequence.blocks, blocks, sequence.request)) {
      const victim = this.#last();
      // What this step, or one in flight, computes already stays.
      if (victim === null || (victim !== sequence && this.#inStep(victim))) return false;
      this.#preempt(victim);
      if (victim === sequence) return false;
    }
    return true;
  }

  #inStep(sequence: Sequence<R>): boolean {
    return sequence.step === this.#step.number || sequence.busy_until > this.#now;
  }

  /** Of those that compute or decode: lowest priority, and of these the one that came last. */
  #last(): Sequence<R> | null {
    const decoding = lastIn(this.#decoding, "decoding");
    const prefilling = lastIn(this.#prefilling, "prefilling");
    if (decoding === null || prefilling === null) return decoding ?? prefilling;
    return before(decoding, prefilling) ? prefilling : decoding;
  }

  #preempt(sequence: Sequence<R>): void {
    this.kv.release(sequence.blocks);
    sequence.blocks = [];
    sequence.computed = 0;
    sequence.published = 0;
    sequence.state = "waiting";
    this.#left = true;
    this.#running--;
    this.#waiting.add(sequence);
    this.#preempted_now = true;
    this.preemptions++;
  }
}

const blocksFor = (tokens: number): number => Math.ceil(tokens / BLOCK_TOKENS);

/** Asked anew after something may have changed it, which a type checker that has seen it before does not expect. */
const stillIn = (sequence: Sequence, state: Sequence["state"]): boolean => sequence.state === state;

function lastIn<R extends EngineRequest>(list: readonly Sequence<R>[], state: Sequence["state"]): Sequence<R> | null {
  for (let index = list.length - 1; index >= 0; index--) {
    const sequence = list[index];
    if (sequence?.state === state) return sequence;
  }
  return null;
}
