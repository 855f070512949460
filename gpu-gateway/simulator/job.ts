/** One leg as its engine has it: the request that came over the wire, and the connection that its answer goes back over. */
import type { EngineRequest } from "../engine-model/engine.ts";
import type { TenantId, LegId } from "../../schema/core/ids.ts";
import type { LegFailure, LegRole, LegUsage, Prefix } from "../policy/vocabulary.ts";
import type { VirtualEngine } from "./virtual-engine.ts";

/** The gateway's end of the connection. What is said to it arrives after the link's delay. */
export interface Answer {
  accepted(): void;
  /** One token, the last one with the end of the answer. */
  token(last: boolean): void;
  prefilled(usage: LegUsage, handover: VirtualHandover): void;
  failed(error: LegFailure): void;
}

/** Where prefilled KV lies. `blocks` are named, as on the wire; nobody checks at the pull whose they are by then (vLLM does not). */
export type VirtualHandover = {
  readonly engine: VirtualEngine;
  readonly job: Job;
  readonly blocks: readonly number[];
  /** Whose tokens lay in each at the hand-over; null when nobody asks. */
  readonly writers: readonly (Job | undefined)[] | null;
  readonly usage: LegUsage;
  /** When the prompt was computed. */
  readonly prefilled_at: number;
};

export type JobInit = {
  readonly leg_id: LegId;
  readonly sent_at: number;
  readonly role: LegRole;
  readonly tenant: TenantId;
  readonly prompt_tokens: number;
  readonly prefix: Prefix | undefined;
  readonly output_tokens: number;
  readonly handover: VirtualHandover | null;
  /** Whose prefix cache has so much of the prompt's beginning. */
  readonly peer_cache: { readonly engine: VirtualEngine; readonly tokens: number } | null;
  readonly answer: Answer;
};

export class Job implements EngineRequest {
  /** The engine's own name for it, as a real one draws one: a call that runs again after a restart has the legs' ids of before. */
  readonly id: string;
  readonly leg_id: LegId;
  readonly role: LegRole;
  readonly tenant: TenantId;
  readonly prompt_tokens: number;
  readonly prefix: Prefix | undefined;
  readonly output_tokens: number;
  readonly priority = 0;
  readonly remote: boolean;
  readonly hold: boolean;
  readonly handover: VirtualHandover | null;
  readonly peer_cache: JobInit["peer_cache"];
  readonly fetch_tokens: number;
  readonly answer: Answer;
  /** The connection stands. */
  open = true;
  /** Of a prefill leg: its KV is held for decode. */
  held = false;
  /** Of a prefill leg: the decode leg that has its hand-over, and renews its lease. */
  puller: Job | null = null;
  /** Of a decode leg: when its KV was there. */
  received_at: number | null = null;
  /** Of its prompt, at its first token. */
  cached_tokens = 0;
  /** Tokens that the gateway has had. */
  delivered = 0;

  constructor(init: JobInit) {
    this.id = `${init.leg_id}@${init.sent_at}`;
    this.leg_id = init.leg_id;
    this.role = init.role;
    this.tenant = init.tenant;
    this.prompt_tokens = init.prompt_tokens;
    this.prefix = init.prefix;
    this.output_tokens = init.role === "prefill" ? 1 : init.output_tokens;
    this.remote = init.role === "decode";
    this.hold = init.role === "prefill";
    this.handover = init.handover;
    this.peer_cache = init.peer_cache;
    this.fetch_tokens = init.peer_cache?.tokens ?? 0;
    this.answer = init.answer;
  }
}
