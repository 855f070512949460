/**
 * A session at the edge, without an edge: the rules by which AgentSession keeps its log (D7, I4), as a state machine over a lossy link.
 *
 *   thinking ── stores the call ──▶ calling ── stores its last frame ──▶ thinking … ──▶ over
 *
 * What is durable: the log, which call is being made, and how far its frames are stored. Frames that arrive wait for the next store, which
 * writes them and the cursor as one; only what is stored is shown to the user's client and credited to the gateway. An eviction loses
 * what waits. A link that was cut is opened again after a pause, and the call sent again from the last frame that is
 * stored or waits.
 */
import { asId, type CallId, type SessionId } from "../../../schema/core/ids.ts";
import type { Micros } from "../../../schema/core/time.ts";
import type { LinkFromEdge, LinkFromGateway } from "../../../schema/core/wire/link.ts";
import type { Logged, LoggedBody, SessionFact } from "./facts.ts";
import { type LinkClock, type LinkEdge, SimLink } from "./link.ts";
import type { GatewayDoor } from "./door.ts";
import type { UserClient } from "./user-client.ts";

/** One call of the session, as far as the session decides about it. */
export type SessionStep = {
  readonly call: CallId;
  readonly program: string;
  readonly turn: number;
  /** Before it is sent: a tool at work, a person thinking. */
  readonly pause: Micros;
  readonly deadline: Micros;
  readonly max_tokens: number;
  readonly model: string;
  readonly cancel_after: Micros | null;
  readonly resend_after: Micros | null;
};

export type SessionTimes = {
  readonly link_delay: Micros;
  /** From the arrival of a frame to its being stored. */
  readonly store_delay: Micros;
  /** Before a link that was cut is opened again. */
  readonly reconnect: Micros;
};

export type SessionParts = {
  readonly clock: LinkClock;
  readonly door: GatewayDoor;
  readonly times: SessionTimes;
  readonly tell: (fact: SessionFact) => void;
  /** No further call is begun from then on. */
  readonly stopped: () => boolean;
  /** A planted bug: the cursor is moved when a frame arrives, not when it is stored. */
  readonly cursor_before_store?: boolean;
};

/** A client that was refused does not come again at once. */
const REFUSED_PAUSE = 1_000_000;

type Durable = { phase: "thinking" | "calling" | "over"; step: number; cursor: number };

export class EdgeSession implements LinkEdge {
  readonly session: SessionId;
  readonly #parts: SessionParts;
  readonly #steps: readonly SessionStep[];
  readonly #log: Logged[] = [];
  readonly #durable: Durable = { phase: "thinking", step: 0, cursor: 0 };
  #client: UserClient | null = null;
  #link: SimLink | null = null;
  /** The last frame that arrived, stored or waiting. */
  #arrived = 0;
  #waiting: LoggedBody[] = [];
  #storing = false;
  /** The last call was. */
  #refused = false;
  /** Of this life in memory: what an earlier one asked to be called back for is void. */
  #life = 0;

  constructor(session: SessionId, steps: readonly SessionStep[], parts: SessionParts) {
    this.session = session;
    this.#steps = steps;
    this.#parts = parts;
  }

  get over(): boolean {
    return this.#durable.phase === "over";
  }
  /** An answer is being told. */
  get listening(): boolean {
    return this.#durable.phase === "calling" && this.#arrived > 0;
  }
  get calling(): boolean {
    return this.#durable.phase === "calling";
  }
  get linked(): boolean {
    return this.#link !== null;
  }
  get last_seq(): number {
    return this.#log.length;
  }
  /** For the words of a liveness failure. */
  get standing(): string {
    const { phase, step, cursor } = this.#durable;
    return `${this.session} is ${phase} at call ${step} of ${this.#steps.length}, ${cursor} frames stored, link ${this.#link === null ? "down" : "up"}`;
  }

  start(at: Micros): void {
    this.#later(at, () => this.#think());
  }

  eventsAfter(seq: number): readonly Logged[] {
    return this.#log.slice(seq);
  }
  attach(client: UserClient | null): void {
    this.#client = client;
  }

  cutLink(): boolean {
    if (this.#link === null) return false;
    this.#link.cut();
    return true;
  }

  /** The object's memory is gone: what was stored is all there is. */
  evict(): boolean {
    if (this.#durable.phase === "over") return false;
    this.#life += 1;
    const link = this.#link;
    this.#link = null;
    this.#waiting = [];
    this.#arrived = this.#durable.cursor;
    this.#storing = false;
    this.#client?.cut();
    link?.cut();
    this.#later(this.#in(this.#parts.times.reconnect), () => {
      if (this.#durable.phase === "calling") this.#connect();
      else this.#think();
    });
    return true;
  }

  // ── from the link

  receive(link: SimLink, frame: LinkFromGateway): void {
    const step = this.#steps[this.#durable.step];
    if (link !== this.#link || this.#durable.phase !== "calling" || step === undefined) return;
    if (frame.type !== "token" && frame.type !== "done" && frame.type !== "refused") return;
    // Of a call that is over: sent twice, refused, and then taken after all.
    if (this.#steps.slice(0, this.#durable.step).some(({ call }) => call === frame.call)) return;
    if (frame.call !== step.call) return this.#breach(`a frame of call ${frame.call} on the link of ${step.call}`);
    // Asked for twice on one link, by a client that sends its call again: told before, or told of another ending.
    if (frame.n <= this.#arrived || this.#waiting.at(-1)?.type === "call_over") return;
    if (frame.n > this.#arrived + 1) return this.#breach(`frame ${frame.n} of ${frame.call} came after frame ${this.#arrived}`);
    this.#arrived = frame.n;
    if (this.#parts.cursor_before_store === true) this.#durable.cursor = frame.n;
    this.#waiting.push(bodyOf(step.call, frame));
    if (this.#storing) return;
    this.#storing = true;
    this.#later(this.#in(this.#parts.times.store_delay), () => this.#store());
  }

  cut(link: SimLink): void {
    if (this.#link !== link) return;
    this.#link = null;
    if (this.#durable.phase === "calling") this.#later(this.#in(this.#parts.times.reconnect), () => this.#connect());
  }

  // ── what it does

  #think(): void {
    const step = this.#steps[this.#durable.step];
    if (this.#durable.phase === "calling") return;
    if (step === undefined || this.#parts.stopped()) {
      this.#durable.phase = "over";
      const link = this.#link;
      this.#link = null;
      link?.cut();
      return;
    }
    const { step: index } = this.#durable;
    this.#later(this.#in((step.pause + (this.#refused ? REFUSED_PAUSE : 0)) as Micros), () => {
      if (this.#durable.phase !== "thinking" || this.#durable.step !== index) return;
      if (this.#parts.stopped()) return this.#think();
      this.#durable.phase = "calling";
      this.#durable.cursor = 0;
      this.#arrived = 0;
      this.#append([{ type: "message", turn: step.turn }]);
      if (step.cancel_after !== null) this.#later(this.#in(step.cancel_after), () => this.#cancel(index));
      if (step.resend_after !== null)
        this.#later(this.#in(step.resend_after), () => {
          if (this.#durable.phase === "calling" && this.#durable.step === index) this.#say();
        });
      this.#connect();
    });
  }

  #connect(): void {
    if (this.#durable.phase !== "calling") return;
    if (this.#link === null) {
      const { clock, times, door } = this.#parts;
      const link = new SimLink(clock, times.link_delay, this, door);
      if (!door.connect(link)) return this.#later(this.#in(times.reconnect), () => this.#connect());
      this.#link = link;
    }
    this.#say();
  }

  /** The call, from where it is stored: the first time, on a new link, or because its client sent it twice. */
  #say(): void {
    const step = this.#steps[this.#durable.step];
    if (step === undefined || this.#link === null) return;
    this.#parts.tell({ type: "sent", session: this.session, call: step.call, from: this.#arrived });
    this.#link.say(callFrame(this.session, step, this.#arrived));
  }

  #cancel(index: number): void {
    const step = this.#steps[index];
    if (step === undefined || this.#durable.phase !== "calling" || this.#durable.step !== index) return;
    this.#link?.say({ type: "cancel", call: step.call, reason: "client_gone" });
  }

  /** The events and the cursor, as one. */
  #store(): void {
    this.#storing = false;
    const stored = this.#waiting;
    const step = this.#steps[this.#durable.step];
    if (stored.length === 0 || step === undefined) return;
    this.#waiting = [];
    this.#durable.cursor = this.#arrived;
    const over = stored.some((event) => event.type === "call_over");
    this.#refused = stored.some((event) => event.type === "call_over" && event.how === "refused");
    if (over) {
      this.#durable.phase = "thinking";
      this.#durable.step += 1;
    }
    this.#append(stored);
    this.#link?.say({ type: "credit", call: step.call, n: this.#durable.cursor });
    if (over) this.#think();
  }

  #append(bodies: readonly LoggedBody[]): void {
    const events = bodies.map((body, index): Logged => ({ ...body, seq: this.#log.length + 1 + index }));
    this.#log.push(...events);
    this.#parts.tell({ type: "stored", session: this.session, events });
    this.#client?.show(events);
  }

  #breach(words: string): void {
    this.#parts.tell({ type: "link_breach", session: this.session, words });
  }

  #in(time: Micros): Micros {
    return (this.#parts.clock.now() + time) as Micros;
  }

  #later(at: Micros, act: () => void): void {
    const life = this.#life;
    this.#parts.clock.at(at, () => {
      if (life === this.#life) act();
    });
  }
}

function bodyOf(call: CallId, frame: Extract<LinkFromGateway, { type: "token" | "done" | "refused" }>): LoggedBody {
  if (frame.type === "token") return { type: "delta", call, text: String(frame.delta["content"]) };
  return { type: "call_over", call, how: frame.type, code: frame.type === "done" ? null : frame.error.code };
}

function callFrame(session: SessionId, step: SessionStep, from: number): LinkFromEdge {
  return {
    type: "call",
    call: step.call,
    from,
    context: { program: asId<"program">(step.program), session, step: `${step.turn}`, deadline_ms: Math.ceil(step.deadline / 1_000) },
    kind: "chat",
    body: { model: step.model, messages: [{ role: "user", content: "…" }], max_tokens: step.max_tokens },
  };
}
