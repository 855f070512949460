/** A request on its way through an engine. Changed only by engine.ts; whoever drives the engine reads it. */
import { BlockKeys, type PromptPrefix } from "./block-keys.ts";

export type EngineRequest = {
  readonly id: string;
  readonly prompt_tokens: number;
  /** Names of the prompt's full blocks (block-hash.ts). Absent, without `prefix`: the prompt is like no other. */
  readonly block_hashes?: readonly (string | number)[];
  /** The same in larger blocks, a multiple of 16 tokens; then `block_hashes` is not looked at. */
  readonly prefix?: PromptPrefix | undefined;
  readonly output_tokens: number;
  /** Lower runs earlier; ties by arrival. */
  readonly priority: number;
  /** KV comes from a prefill instance. */
  readonly remote: boolean;
  /** KV of the first so many tokens may be had from elsewhere: it is fetched where the own cache has less, and the rest computed. */
  readonly fetch_tokens?: number;
  /** Keep the blocks after the end, for a decode instance to pull. */
  readonly hold: boolean;
};

/**
 *   waiting ─▶ prefilling ─▶ decoding ─▶ gone
 *      │  ◀──preempted──┴───────┘         ▲
 *      └────▶ receiving ─▶ decoding, prefilling   (remote, fetched)
 *      └──────────┴── aborted ────────────┘
 */
export type SequenceState = "waiting" | "prefilling" | "receiving" | "decoding" | "gone";

export class Sequence<R extends EngineRequest = EngineRequest> {
  readonly request: R;
  /** By arrival: breaks ties of priority, also after a preemption. */
  readonly order: number;
  readonly keys: BlockKeys;
  state: SequenceState = "waiting";
  blocks: number[] = [];
  /** Tokens whose KV is in the blocks. */
  computed = 0;
  /** Leading blocks that have been published. */
  published = 0;
  /** Tokens of the answer that exist (when the step in progress is done). */
  emitted = 0;
  /** Prompt tokens found in the prefix cache when it was first admitted; -1: it was not yet. */
  cached = -1;
  /** How many tokens of KV to fetch. */
  pull_tokens = 0;
  /** All of its prompt's KV is still to come from elsewhere. */
  remote: boolean;
  /** So much of its prompt's KV is still to come from elsewhere. */
  fetch_tokens: number;
  /** The step that last computed some of it. */
  step = -1;
  /** With pipeline stages: its last step is done then. */
  busy_until = 0;
  /** KvBlocks.changes when it last found no room: nothing has changed while that is the same. */
  refused_at = -1;

  constructor(request: R, order: number) {
    this.request = request;
    this.order = order;
    this.remote = request.remote;
    this.fetch_tokens = request.remote ? request.prompt_tokens : Math.min(request.fetch_tokens ?? 0, request.prompt_tokens - 1);
    this.keys = BlockKeys.of(request.prompt_tokens, request.block_hashes, request.prefix);
  }

  get id(): string {
    return this.request.id;
  }
  /** How long it is now: what must be computed before its next token. */
  get length(): number {
    return this.request.prompt_tokens + this.emitted;
  }
  get ended(): boolean {
    return this.emitted >= this.request.output_tokens;
  }
}

/** Goes first: by priority, then arrival. */
export function before(a: Sequence, b: Sequence): boolean {
  return a.request.priority < b.request.priority || (a.request.priority === b.request.priority && a.order < b.order);
}
