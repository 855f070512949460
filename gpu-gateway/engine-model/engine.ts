/**
 * One engine instance, as a state machine over model time. No clock: whoever drives it (a server in real time, a simulator in
 * virtual time) says what time it is and comes back at `done_at`.
 *
 * A request is *waiting* until a sequence slot and the KV blocks of its prompt are free, then *running*: its prompt is computed in
 * chunks (at most `step_tokens` a step, decoding sequences first), the last chunk yields the first token, each later step one
 * more. A remote request *receives* its KV after admission instead of computing it, and computes only the last prompt token.
 * When memory runs out for a growing sequence, the youngest running one is preempted: its blocks go back and it computes its
 * prompt and its own tokens again. A finished request with `hold` keeps its blocks until it is released or its lease ends.
 *
 * Simpler than vLLM: a prompt's blocks are taken at once, not chunk by chunk; a decoded token's block is not put in the cache.
 */
import { BLOCK_TOKENS, KvBlocks } from "./kv-blocks.ts";
import { prefillPairs, stepUs } from "./profile.ts";
import type { ModelProfile } from "./profile.ts";

export type EngineLimits = {
  readonly kv_tokens: number;
  /** Sequences that run at once (vLLM's max_num_seqs). */
  readonly sequences: number;
  /** Tokens computed in one step (vLLM's max_num_batched_tokens). */
  readonly step_tokens: number;
};

export type EngineRequest = {
  readonly id: string;
  readonly prompt_tokens: number;
  /** Hashes of the prompt's full blocks (block-hash.ts). */
  readonly block_hashes: readonly string[];
  readonly output_tokens: number;
  /** Lower runs earlier; ties by arrival. */
  readonly priority: number;
  /** KV comes from a prefill instance. */
  readonly remote: boolean;
  /** Keep the blocks after the end, for a decode instance to pull. */
  readonly hold: boolean;
};

/** A remote request now has blocks: fetch this many tokens of KV, then say `received` or `abort`. */
export type Pull = { readonly id: string; readonly tokens: number };
/** `cached`: prompt tokens found in the prefix cache. */
export type Emitted = { readonly id: string; readonly index: number; readonly last: boolean; readonly cached: number };
export type Step = {
  readonly pulls: readonly Pull[];
  /** Null: nothing to compute. Otherwise the tokens exist at `done_at`. */
  readonly work: { readonly done_at: number; readonly tokens: readonly Emitted[]; readonly batch: number } | null;
};

type Sequence = {
  readonly request: EngineRequest;
  blocks: number[];
  computed: number;
  emitted: number;
  cached: number;
  /** `due`: KV is to be received once admitted. */
  remote: "no" | "due" | "receiving";
};

export class EngineModel {
  readonly profile: ModelProfile;
  readonly limits: EngineLimits;
  readonly kv: KvBlocks;
  /** Multiplies step times: 1 is the model, more is a slow machine (fault injection). */
  slowdown = 1;
  preemptions = 0;
  prefix_queries = 0;
  prefix_hits = 0;
  #waiting: Sequence[] = [];
  #running: Sequence[] = [];
  #held = new Map<string, { readonly blocks: number[]; lease_ends: number | null }>();

  constructor(profile: ModelProfile, limits: EngineLimits) {
    this.profile = profile;
    this.limits = limits;
    this.kv = new KvBlocks(limits.kv_tokens);
  }

  get running(): number {
    return this.#running.length;
  }
  get waiting(): number {
    return this.#waiting.length;
  }
  get held(): number {
    return this.#held.size;
  }

  /** The caller has checked that prompt and answer fit into memory at all; else this one would wait for ever. */
  add(request: EngineRequest): void {
    if (request.prompt_tokens < 1 || request.output_tokens < 1) throw new RangeError("a request has at least one token each way");
    if (request.prompt_tokens + request.output_tokens > this.kv.total * BLOCK_TOKENS) throw new RangeError("longer than KV memory");
    const sequence: Sequence = { request, blocks: [], computed: 0, emitted: 0, cached: 0, remote: request.remote ? "due" : "no" };
    const before = this.#waiting.findIndex((other) => other.request.priority > request.priority);
    if (before < 0) this.#waiting.push(sequence);
    else this.#waiting.splice(before, 0, sequence);
  }

  /** Frees everything of a request that waits, runs or receives; false when there is none (it has ended). */
  abort(id: string): boolean {
    const waiting = this.#waiting.findIndex((sequence) => sequence.request.id === id);
    if (waiting >= 0) {
      this.#waiting.splice(waiting, 1);
      return true;
    }
    const running = this.#running.findIndex((sequence) => sequence.request.id === id);
    const sequence = this.#running[running];
    if (sequence === undefined) return false;
    this.#running.splice(running, 1);
    this.kv.release(sequence.blocks);
    return true;
  }

  /** The KV of a remote request has arrived: all but its last token need no computing. */
  received(id: string): void {
    const sequence = this.#running.find((other) => other.request.id === id);
    if (sequence?.remote !== "receiving") return; // aborted or preempted meanwhile
    sequence.remote = "no";
    sequence.computed = sequence.request.prompt_tokens - 1;
    this.kv.publish(sequence.blocks, sequence.request.block_hashes);
  }

  /** Blocks of a running or held request, in order. */
  blocksOf(id: string): readonly number[] {
    return this.#held.get(id)?.blocks ?? this.#running.find((sequence) => sequence.request.id === id)?.blocks ?? [];
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

  /** Begins an iteration at `now`. */
  step(now: number): Step {
    const pulls = this.#admit();
    const tokens: Emitted[] = [];
    let budget = this.limits.step_tokens;
    let [computed, prefill_pairs, decode_context, batch] = [0, 0, 0, 0];

    const running = this.#running.slice(); // a preemption changes it
    for (const sequence of running) {
      if (sequence.remote === "receiving" || !this.#running.includes(sequence) || budget === 0) continue;
      const target = sequence.request.prompt_tokens + sequence.emitted;
      const fresh = Math.min(target - sequence.computed, budget);
      if (!this.#ensureRoom(sequence, target)) continue;
      budget -= fresh;
      batch++;
      computed += fresh;
      if (fresh === 1) decode_context += sequence.computed + 1;
      else prefill_pairs += prefillPairs(sequence.computed, fresh);
      sequence.computed += fresh;
      if (sequence.computed === target) tokens.push(this.#emit(sequence));
    }
    if (computed === 0) return { pulls, work: null };
    for (const token of tokens) if (token.last) this.#finish(token.id);
    const us = stepUs(this.profile, { tokens: computed, prefill_pairs, decode_context }) * this.slowdown;
    return { pulls, work: { done_at: now + us, tokens, batch } };
  }

  /** Sleep: all KV is dropped, cached, held and in use. Ids of what was thrown out. */
  dropAll(): string[] {
    const dropped = [...this.#waiting, ...this.#running].map((sequence) => sequence.request.id);
    for (const id of dropped) this.abort(id);
    for (const id of this.#held.keys()) this.releaseHeld(id);
    this.kv.forget();
    return dropped;
  }

  #admit(): Pull[] {
    const pulls: Pull[] = [];
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      if (this.#running.length >= this.limits.sequences) break;
      const { request } = next;
      const length = request.prompt_tokens + next.emitted;
      // The last prompt token is always computed: its logits are the first answer.
      const usable = Math.floor((request.prompt_tokens - 1) / BLOCK_TOKENS);
      const shared = this.kv.cachedPrefix(request.block_hashes.slice(0, usable));
      const blocks = this.kv.take(request.block_hashes, shared, Math.ceil(length / BLOCK_TOKENS));
      if (blocks === null) break;
      this.#waiting.shift();
      next.blocks = blocks;
      next.computed = shared * BLOCK_TOKENS;
      if (next.emitted === 0) {
        next.cached = next.computed;
        this.prefix_queries += request.prompt_tokens;
        this.prefix_hits += next.cached;
      }
      this.#running.push(next);
      if (next.remote !== "due") continue;
      next.remote = "receiving";
      pulls.push({ id: request.id, tokens: request.prompt_tokens - next.cached });
    }
    return pulls;
  }

  #emit(sequence: Sequence): Emitted {
    if (sequence.emitted === 0) this.kv.publish(sequence.blocks, sequence.request.block_hashes);
    const index = sequence.emitted++;
    return { id: sequence.request.id, index, last: sequence.emitted >= sequence.request.output_tokens, cached: sequence.cached };
  }

  #finish(id: string): void {
    const index = this.#running.findIndex((sequence) => sequence.request.id === id);
    const sequence = this.#running[index];
    if (sequence === undefined) return;
    this.#running.splice(index, 1);
    if (sequence.request.hold) {
      this.#held.set(id, { blocks: sequence.blocks, lease_ends: null });
    } else this.kv.release(sequence.blocks);
  }

  /** Blocks for `tokens` of this sequence, preempting younger ones if need be; false when it had to yield itself. */
  #ensureRoom(sequence: Sequence, tokens: number): boolean {
    while (sequence.blocks.length * BLOCK_TOKENS < tokens) {
      const block = this.kv.grow();
      if (block !== null) {
        sequence.blocks.push(block);
        continue;
      }
      const victim = this.#running.at(-1);
      if (victim === undefined) return false;
      this.#preempt(victim);
      if (victim === sequence) return false;
    }
    return true;
  }

  #preempt(sequence: Sequence): void {
    this.#running.splice(this.#running.indexOf(sequence), 1);
    this.kv.release(sequence.blocks);
    sequence.blocks = [];
    sequence.computed = 0;
    sequence.remote = "no"; // it computes its prompt here now
    this.#waiting.unshift(sequence);
    this.preemptions++;
  }
}
