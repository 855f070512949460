/**
 * One call on the link, as its caller sees it: numbered frames, each exactly once and in order, however often the socket
 * underneath was replaced.
 *
 * Frames are handed over in bursts, at most one a tick. Within a burst `onFrame` is entered once for each frame, in order and
 * without waiting in between, so that a consumer's writes fall into one transaction; then all that it returned is awaited, and
 * only then is credit given: credit says "durable" (I4).
 */
import { failure, type Failure } from "../schema/core/errors.ts";
import { LINK_BUFFER_FRAMES_MAX } from "../schema/core/wire/limits.ts";
import type { CallContext, LinkFromEdge, LinkFromGateway } from "../schema/core/wire/link.ts";
import type { LinkTiming } from "./gateway-client-timing.ts";

export type GatewayCall = {
  readonly call: string;
  /** The last `n` that is durable at the caller; 0 for none. */
  readonly from: number;
  readonly context: CallContext;
  readonly kind: "chat" | "completion";
  readonly body: Extract<LinkFromEdge, { type: "call" }>["body"];
};
export type GatewayFrame = Extract<LinkFromGateway, { type: "accepted" | "queued" | "token" | "done" | "refused" }>;
export type OnFrame = (frame: GatewayFrame) => void | Promise<void>;

export type Receipt = "taken" | "duplicate" | "gap" | "overflow";

export class LinkCall {
  readonly request: GatewayCall;
  readonly finished: Promise<void>;
  /** Set once the caller asked to stop: the reason travels with every re-send. */
  cancel_reason: string | undefined;
  /** Whether a gateway may know of it. */
  sent = false;
  readonly #onFrame: OnFrame;
  readonly #onDurable: (n: number) => void;
  readonly #onFinished: () => void;
  readonly #timing: LinkTiming;
  readonly #deadline_at_ms: number;
  readonly #resolve: () => void;
  readonly #reject: (error: unknown) => void;
  #received: number;
  #tokens = 0;
  #inbox: GatewayFrame[] = [];
  #handing_over = false;
  #over = false;
  #ended_by_gateway = false;
  #last_burst_at_ms = -Infinity;
  #burst_timer: ReturnType<typeof setTimeout> | undefined;
  #deadline_timer: ReturnType<typeof setTimeout> | undefined;
  #cancel_timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    request: GatewayCall,
    onFrame: OnFrame,
    timing: LinkTiming,
    hooks: { onDurable: (n: number) => void; onDeadline: () => void; onFinished: () => void },
  ) {
    this.request = request;
    this.#onFrame = onFrame;
    this.#timing = timing;
    this.#received = request.from;
    this.#onDurable = hooks.onDurable;
    this.#onFinished = hooks.onFinished;
    this.#deadline_at_ms = performance.now() + request.context.deadline_ms;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.finished = promise;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#deadline_timer = setTimeout(() => {
      hooks.onDeadline();
      this.end(failure("deadline_exceeded"));
    }, request.context.deadline_ms + timing.deadline_grace_ms);
  }

  /** The frame that starts or re-attaches the call: from what was received, with what is left of its time. */
  frame(): LinkFromEdge {
    const deadline_ms = Math.max(1, Math.round(this.#deadline_at_ms - performance.now()));
    const { call, context, kind, body } = this.request;
    return { type: "call", call, from: this.#received, context: { ...context, deadline_ms }, kind, body };
  }

  /** Whether any of the answer has reached this side, in this life of the object or an earlier one. */
  get begun(): boolean {
    return this.#received > 0;
  }

  /** Whether the gateway has nothing more to do for it. */
  get ended_by_gateway(): boolean {
    return this.#ended_by_gateway;
  }

  receive(frame: GatewayFrame): Receipt {
    if (this.#over || this.#ended_by_gateway) return "duplicate";
    if ("n" in frame) {
      if (frame.n <= this.#received) return "duplicate";
      if (frame.n > this.#received + 1) return "gap";
    }
    if (this.#inbox.length >= LINK_BUFFER_FRAMES_MAX) return "overflow";
    if ("n" in frame) this.#received = frame.n;
    if (frame.type === "token") this.#tokens += frame.tokens;
    if (frame.type === "done" || frame.type === "refused") this.#ended_by_gateway = true;
    this.#inbox.push(frame);
    this.#schedule();
    return "taken";
  }

  /** Ends the call from this side, with a frame that no gateway sent. What was received before it is still handed over. */
  end(error: Failure): void {
    if (this.#over || this.#ended_by_gateway) return;
    this.#ended_by_gateway = true;
    this.#received += 1;
    // An earlier life's tokens are not counted here; `emitted` then only says that there were some.
    const emitted = this.#tokens > 0 ? this.#tokens : this.request.from;
    const { call } = this.request;
    this.#inbox.push({ type: "refused", call, n: this.#received, error, emitted });
    this.#schedule();
  }

  endAfter(ms: number, error: Failure): void {
    this.#cancel_timer ??= setTimeout(() => this.end(error), ms);
  }

  #schedule(): void {
    if (this.#handing_over || this.#burst_timer !== undefined) return;
    const wait_ms = this.#ended_by_gateway ? 0 : this.#last_burst_at_ms + this.#timing.tick_ms - performance.now();
    if (wait_ms <= 0) {
      void this.#handOver();
      return;
    }
    this.#burst_timer = setTimeout(() => {
      this.#burst_timer = undefined;
      void this.#handOver();
    }, wait_ms);
  }

  async #handOver(): Promise<void> {
    this.#handing_over = true;
    this.#last_burst_at_ms = performance.now();
    const burst = this.#inbox;
    this.#inbox = [];
    try {
      const stored: Promise<void>[] = [];
      for (const frame of burst) {
        const pending = this.#onFrame(frame);
        if (pending) stored.push(pending);
      }
      if (stored.length > 0) await Promise.all(stored);
    } catch (error) {
      this.#settle(() => this.#reject(error));
      return;
    }
    const last = burst.at(-1);
    const n = burst.reduce((highest, frame) => ("n" in frame ? frame.n : highest), 0);
    if (n > 0) this.#onDurable(n);
    this.#handing_over = false;
    if (last?.type === "done" || last?.type === "refused") this.#settle(this.#resolve);
    else if (this.#inbox.length > 0) this.#schedule();
  }

  #settle(settle: () => void): void {
    if (this.#over) return;
    this.#over = true;
    stop(this.#burst_timer);
    stop(this.#deadline_timer);
    stop(this.#cancel_timer);
    this.#onFinished();
    settle();
  }
}

function stop(timer: ReturnType<typeof setTimeout> | undefined): void {
  if (timer !== undefined) clearTimeout(timer);
}
