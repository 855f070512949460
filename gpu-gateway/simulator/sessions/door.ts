/**
 * The gateway's side of the sessions' links: what the runtime and the link's connection do for a call, without sockets. Calls and their
 * output live in the runtime's own CallRegistry and CallOutput. The rules of a `call` frame are those of server/link/connection.ts: a known
 * call is attached to and told from `from`; an unknown one runs when `from` is 0, and is else refused with `gateway_lost`.
 *
 * Told by the scheduler's effects, as the runtime is. A call is told as accepted once the journal has it (D4); a gateway that dies forgets
 * everything, and every link to it is cut.
 */
import { failure, type Failure } from "../../../schema/core/errors.ts";
import { asId, type CallId, type LegId } from "../../../schema/core/ids.ts";
import type { Micros } from "../../../schema/core/time.ts";
import { LINK_RESUME_WINDOW_MS } from "../../../schema/core/wire/limits.ts";
import type { LinkFromEdge } from "../../../schema/core/wire/link.ts";
import type { Effect } from "../../policy/effects.ts";
import type { SchedulerEvent } from "../../policy/events.ts";
import type { CallOutcome, LegUsage } from "../../policy/vocabulary.ts";
import { type CallEntry, CallRegistry, usageOf } from "../../runtime/calls.ts";
import { CallOutput } from "../../runtime/output.ts";
import { LinkReader } from "../../server/link/reader.ts";
import type { SimCall } from "../types.ts";
import type { LinkClock, LinkDoor, SimLink } from "./link.ts";
import { wordsOf } from "./words.ts";

type CallFrame = Extract<LinkFromEdge, { type: "call" }>;

export type DoorParts = {
  readonly clock: LinkClock;
  /** From `call_accepted` to its being on disk. */
  readonly journal_delay: Micros;
  /** What the frame stands for: the call, as of now. */
  readonly callOf: (frame: CallFrame) => SimCall;
  /** Money is held before it is spent (I5): a failure where there is none left. */
  readonly hold: (sim: SimCall) => Failure | null;
  readonly submit: (sim: SimCall) => void;
  readonly cancel: (call: CallId, reason: string) => void;
  /** So many tokens of this call exist now. */
  readonly produced: (call: CallId, tokens: number) => void;
};

export class GatewayDoor implements LinkDoor {
  readonly #parts: DoorParts;
  #calls = new CallRegistry();
  /** Answer legs that run: whose words they are. */
  #legs = new Map<LegId, CallId>();
  #detached = new Map<CallId, Micros>();
  #links = new Set<SimLink>();
  #epoch = 0;
  #alive = false;

  constructor(parts: DoorParts) {
    this.#parts = parts;
  }

  get alive(): boolean {
    return this.#alive;
  }
  /** The longest output that is kept of one call, and the most frames under way on one link (I8). */
  get fullest(): { readonly kept: number; readonly under_way: number } {
    let kept = 0;
    for (const entry of this.#calls.values()) kept = Math.max(kept, entry.output.kept);
    let under_way = 0;
    for (const link of this.#links) under_way = Math.max(under_way, link.under_way);
    return { kept, under_way };
  }

  started(): void {
    this.#epoch += 1;
    this.#alive = true;
  }

  died(): void {
    this.#alive = false;
    this.#calls = new CallRegistry();
    this.#legs = new Map();
    this.#detached = new Map();
    const links = [...this.#links];
    this.#links.clear();
    for (const link of links) link.cut();
  }

  /** False: nobody answers. */
  connect(link: SimLink): boolean {
    if (this.#alive) this.#links.add(link);
    return this.#alive;
  }

  receive(link: SimLink, frame: LinkFromEdge): void {
    if (frame.type === "call") this.#call(link, frame);
    else if (frame.type === "credit") link.readers.get(asId<"call">(frame.call))?.credit(frame.n);
    else if (frame.type === "cancel") this.#cancel(asId<"call">(frame.call), frame.reason);
  }

  cut(link: SimLink): void {
    this.#links.delete(link);
    for (const reader of link.readers.values()) {
      reader.call.output.detach(reader);
      const { call_id } = reader.call.call;
      if (this.#calls.running(call_id)?.output.readers === 0) this.#detached.set(call_id, this.#parts.clock.now());
    }
    link.readers.clear();
  }

  /** Once in a while: nobody came back for these. */
  sweep(): void {
    const now = this.#parts.clock.now();
    this.#calls.expire(now / 1_000);
    for (const [call_id, since] of this.#detached) {
      const entry = this.#calls.running(call_id);
      if (entry === undefined || entry.output.readers > 0) this.#detached.delete(call_id);
      else if (now - since > LINK_RESUME_WINDOW_MS * 1_000) this.#cancel(call_id, "abandoned");
    }
  }

  /** What the cluster's scheduler was told and said. */
  observe(event: SchedulerEvent, effects: readonly Effect[]): void {
    if (event.type === "leg_first_token") this.#produced(event.leg_id, 1);
    else if (event.type === "leg_progress") this.#produced(event.leg_id, event.tokens);
    else if (event.type === "leg_finished") this.#produced(event.leg_id, event.usage.completion_tokens);
    else if (event.type === "leg_failed") this.#produced(event.leg_id, event.tokens);
    if (event.type === "call_arrived" && !effects.some((effect) => effect.type === "reject")) this.#accept(event.call.call_id);
    for (const effect of effects) {
      if (effect.type === "start_leg" && effect.role !== "prefill") this.#legs.set(effect.leg_id, effect.call_id);
      else if (effect.type === "cancel_leg") this.#legs.delete(effect.leg_id);
      else if (effect.type === "progress") this.#calls.running(effect.call_id)?.output.queuedAt(effect.position);
      else if (effect.type === "reject") this.#refuse(effect.call_id, effect.failure, effect.retry_after_ms);
      else if (effect.type === "end_call") this.#end(effect.call_id, effect.outcome, effect.retry_after_ms);
    }
  }

  #call(link: SimLink, frame: CallFrame): void {
    const call_id = asId<"call">(frame.call);
    let call = this.#calls.find(call_id);
    if (call === undefined && frame.from > 0)
      return refuse(link, frame, failure("gateway_lost", "the gateway does not know this call any more"));
    if (call === undefined) {
      const sim = this.#parts.callOf(frame);
      const why = this.#parts.hold(sim);
      if (why !== null) return refuse(link, frame, why);
      const entry = entryOf(sim, frame);
      call = entry;
      this.#calls.add(entry);
      // One that is refused at the door is forgotten before this returns; who asked is told all the same.
      this.#parts.submit(sim);
    } else if (this.#calls.running(call_id) !== undefined) {
      // Live, the runtime attaches and policy hears nothing; here policy hears it, for it says that it does nothing then.
      this.#parts.submit(this.#parts.callOf(frame));
    }
    if (!call.output.has(frame.from)) return refuse(link, frame, failure("gateway_lost", `frames after ${frame.from} are not kept`));
    const before = link.readers.get(call_id);
    if (before !== undefined) call.output.detach(before);
    const reader = new LinkReader(link, call, frame.from);
    link.readers.set(call_id, reader);
    call.output.attach(reader);
    reader.wake();
  }

  #accept(call_id: CallId): void {
    const entry = this.#calls.running(call_id);
    if (entry === undefined || entry.journaled) return;
    entry.journaled = true;
    const { clock, journal_delay } = this.#parts;
    const epoch = this.#epoch;
    clock.at((clock.now() + journal_delay) as Micros, () => {
      if (epoch === this.#epoch && this.#alive) entry.output.accept();
    });
  }

  #cancel(call_id: CallId, reason: string): void {
    if (this.#calls.running(call_id) !== undefined) this.#parts.cancel(call_id, reason);
  }

  #produced(leg_id: LegId, tokens: number): void {
    const call_id = this.#legs.get(leg_id);
    const entry = call_id === undefined ? undefined : this.#calls.running(call_id);
    if (call_id === undefined || entry === undefined || tokens <= entry.emitted) return;
    const content = wordsOf(entry.emitted, tokens);
    const fresh = tokens - entry.emitted;
    entry.emitted = tokens;
    this.#parts.produced(call_id, tokens);
    const outcome = entry.output.append({ choice: 0, delta: { content }, tokens: fresh, finish_reason: null });
    const { clock } = this.#parts;
    // Not from within: the scheduler is in the middle of an event.
    if (outcome === "overflow") clock.at(clock.now(), () => this.#cancel(call_id, "slow_reader"));
  }

  #refuse(call_id: CallId, why: Failure, retry_after_ms: number): void {
    const entry = this.#calls.running(call_id);
    if (entry === undefined) return;
    entry.output.refuse({ failure: why, emitted: 0, usage: null, retry_after_ms });
    this.#calls.end(entry, this.#parts.clock.now() / 1_000);
  }

  #end(call_id: CallId, outcome: CallOutcome, retry_after_ms: number | null): void {
    const entry = this.#calls.running(call_id);
    if (entry === undefined) return;
    const usage: LegUsage = usageOf(entry, outcome.type === "done" ? outcome.usage : null);
    if (outcome.type === "done") entry.output.done({ finish_reason: outcome.finish_reason, usage, legs: [] });
    else {
      const why = outcome.type === "cancelled" ? failure("cancelled", outcome.reason) : outcome.failure;
      entry.output.refuse({ failure: why, emitted: entry.emitted, usage: entry.emitted > 0 ? usage : null, retry_after_ms });
    }
    this.#calls.end(entry, this.#parts.clock.now() / 1_000);
    this.#detached.delete(call_id);
  }
}

function refuse(link: SimLink, frame: CallFrame, error: Failure): void {
  link.send({ type: "refused", call: frame.call, n: frame.from + 1, error, emitted: frame.from });
}

function entryOf({ call }: SimCall, frame: CallFrame): CallEntry {
  return {
    call,
    tags: {
      tenant: call.tenant,
      project: "prj_sim",
      function: null,
      version: null,
      run: null,
      session: null,
      program: call.program,
      agent: call.agent,
      model: call.model,
      key: "key_sim",
    },
    kind: frame.kind,
    body: frame.body,
    digest: frame.call,
    raw_estimate: { tokens: call.prompt_tokens, exact: true },
    cache_salt: call.tenant,
    output: new CallOutput(true),
    resumable: true,
    legs: new Map(),
    emitted: 0,
    first_token_at: null,
    prompt: null,
    served_by: [],
    journaled: false,
    noted: 0,
  };
}
