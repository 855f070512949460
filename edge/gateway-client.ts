/**
 * The edge's end of the link (schema/core/wire/link.ts): one WebSocket to the gateway for all model calls of one Run or
 * session, so that a fan-out of any width costs one outgoing connection. An object that uses it owns one client.
 *
 *   down ──call──▶ connecting ──welcome──▶ open ──nothing in flight for linger_ms──▶ down
 *                    ▲   │ failed            │ lost, silent, or broke the protocol
 *                    │   ▼                   ▼
 *                    └─ backing off ◀────────┘        (with nothing in flight a lost link is just down)
 *
 * L1 A call ends exactly once: its last frame is `done` or `refused` (I2). It outlives neither its deadline by more than
 *    deadline_grace_ms, nor a gateway that stays away for away_ms_max.
 * L2 A frame with a number is handed over exactly once, in order, over any number of sockets: after a reconnect a call is sent
 *    again with `from` = the last number received here.
 * L3 At most LINK_CALLS_MAX calls are on the link; further ones wait in order of arrival, at most CALLS_WAITING_MAX.
 * L4 At most one connection of a client awaits its headers, well below the platform's PENDING_CONNECTIONS_MAX an object.
 */
import { ERRORS, failure, type Failure } from "../schema/core/errors.ts";
import { LINK_CALLS_MAX, LINK_FRAME_BYTES_MAX } from "../schema/core/wire/limits.ts";
import type { LinkFromEdge } from "../schema/core/wire/link.ts";
import { LinkCall, type GatewayCall, type GatewayFrame, type OnFrame } from "./gateway-client-call.ts";
import { backoffMs, LINK_TIMING, type LinkTiming } from "./gateway-client-timing.ts";
import { dial, type DialOptions, parseLinkFrame, toFailure } from "./gateway-client-dial.ts";

export type { GatewayCall, GatewayFrame, OnFrame } from "./gateway-client-call.ts";

/** Beyond it a call is refused at once with `rate_limited`. Wider than any run may fan out (FANOUT_MAX). */
export const CALLS_WAITING_MAX = 4_096;

export type GatewayClient = {
  /**
   * Resolves when the last frame (`done` or `refused`) has been handed over and stored; rejects only with what `onFrame` threw.
   * `onFrame` is entered once a frame, in order; credit is given when what it returned has resolved, so that it should resolve
   * once the frame is durable. Frames of one tick are handed over in one burst, before any of their promises is awaited.
   */
  call(request: GatewayCall, onFrame: OnFrame): Promise<void>;
  /** The call then ends with the gateway's own `refused`, or with `cancelled` after cancel_grace_ms. */
  cancel(call: string, reason: string): void;
  /** Ends what is in flight with `cancelled` and closes the socket. */
  close(): void;
  readonly in_flight: number;
  /** Whether a socket is open or being opened: while it is, the object cannot hibernate. */
  readonly connected: boolean;
};

export type GatewayClientOptions = DialOptions & { readonly timing?: Partial<LinkTiming>; readonly random?: () => number };

export function createGatewayClient(options: GatewayClientOptions): GatewayClient {
  const link = new Link(options);
  return {
    call: (request, onFrame) => link.call(request, onFrame),
    cancel: (call, reason) => link.cancel(call, reason),
    close: () => link.close(),
    get in_flight() {
      return link.in_flight;
    },
    get connected() {
      return link.connected;
    },
  };
}

type Phase =
  | { name: "down"; linger?: undefined }
  | { name: "connecting"; abort: AbortController }
  | { name: "open"; socket: WebSocket; ping: ReturnType<typeof setInterval>; linger: ReturnType<typeof setTimeout> | undefined }
  | { name: "backing_off"; timer: ReturnType<typeof setTimeout> };

class Link {
  readonly #options: GatewayClientOptions;
  readonly #timing: LinkTiming;
  readonly #random: () => number;
  readonly #calls = new Map<string, LinkCall>();
  readonly #waiting = new Map<string, LinkCall>();
  #phase: Phase = { name: "down" };
  #failures = 0;
  #away_since_ms: number | undefined;
  #heard_at_ms = 0;

  constructor(options: GatewayClientOptions) {
    this.#options = options;
    this.#timing = { ...LINK_TIMING, ...options.timing };
    this.#random = options.random ?? Math.random;
  }

  get in_flight(): number {
    return this.#calls.size + this.#waiting.size;
  }

  get connected(): boolean {
    return this.#phase.name === "open" || this.#phase.name === "connecting";
  }

  call(request: GatewayCall, onFrame: OnFrame): Promise<void> {
    const id = request.call;
    if (this.#calls.has(id) || this.#waiting.has(id)) throw new Error(`call ${id} is already on the link`);
    const call = new LinkCall(request, onFrame, this.#timing, {
      onDurable: (n) => this.#send({ type: "credit", call: id, n }),
      onDeadline: () => this.#send({ type: "cancel", call: id, reason: "deadline_exceeded" }),
      onFinished: () => this.#finished(id),
    });
    const bytes = new TextEncoder().encode(JSON.stringify(call.frame())).length;
    if (this.#calls.size < LINK_CALLS_MAX) this.#calls.set(id, call);
    else this.#waiting.set(id, call);
    if (bytes > LINK_FRAME_BYTES_MAX) call.end(failure("body_too_large", `a model call is at most ${LINK_FRAME_BYTES_MAX} bytes`));
    else if (this.#waiting.size > CALLS_WAITING_MAX) call.end(failure("rate_limited", `at most ${CALLS_WAITING_MAX} calls may wait`));
    else if (this.#calls.has(id)) this.#start(call);
    return call.finished;
  }

  cancel(id: string, reason: string): void {
    const waiting = this.#waiting.get(id);
    if (waiting) waiting.end(failure("cancelled"));
    const call = this.#calls.get(id);
    if (!call || call.cancel_reason !== undefined || call.ended_by_gateway) return;
    call.cancel_reason = reason.slice(0, 128);
    if (!call.sent && !call.begun) call.end(failure("cancelled"));
    else this.#sendCancel(call);
  }

  close(): void {
    for (const call of [...this.#waiting.values(), ...this.#calls.values()]) {
      if (this.#phase.name === "open") this.#send({ type: "cancel", call: call.request.call, reason: "closed" });
      call.end(failure("cancelled", "the link was closed"));
    }
    this.#down(1000, "done");
  }

  // ── calls ──

  #start(call: LinkCall): void {
    if (this.#phase.name === "open") {
      if (this.#phase.linger !== undefined) clearTimeout(this.#phase.linger);
      this.#phase.linger = undefined;
      // Silence is counted from when there was something to hear.
      if (this.#calls.size === 1) this.#heard_at_ms = performance.now();
      this.#sendCall(call);
    } else if (this.#phase.name === "down") {
      void this.#connect();
    }
  }

  #sendCall(call: LinkCall): void {
    call.sent = true;
    this.#send(call.frame());
  }

  #sendCancel(call: LinkCall): void {
    if (this.#phase.name !== "open") return;
    this.#send({ type: "cancel", call: call.request.call, reason: call.cancel_reason ?? "cancelled" });
    call.endAfter(this.#timing.cancel_grace_ms, failure("cancelled"));
  }

  #finished(id: string): void {
    this.#waiting.delete(id);
    this.#calls.delete(id);
    const next = this.#waiting.values().next();
    if (!next.done && this.#calls.size < LINK_CALLS_MAX) {
      this.#waiting.delete(next.value.request.call);
      this.#calls.set(next.value.request.call, next.value);
      this.#start(next.value);
    }
    if (this.in_flight > 0) return;
    const phase = this.#phase;
    if (phase.name === "open") phase.linger ??= setTimeout(() => this.#down(1000, "idle"), this.#timing.linger_ms);
    else if (phase.name === "backing_off") this.#down();
  }

  // ── the socket ──

  async #connect(): Promise<void> {
    const abort = new AbortController();
    const phase: Phase = { name: "connecting", abort };
    this.#phase = phase;
    const outcome = await dial(this.#options, this.#timing.connect_ms_max, abort);
    if (this.#phase !== phase) {
      if (outcome.kind === "welcomed") outcome.socket.close(1000, "not needed");
      return;
    }
    switch (outcome.kind) {
      case "welcomed":
        this.#opened(outcome.socket);
        return;
      case "refused":
        this.#endAll(outcome.error);
        this.#down();
        return;
      case "unreachable":
        this.#lost(outcome.detail);
        return;
    }
  }

  #opened(socket: WebSocket): void {
    const ping = setInterval(() => this.#pulse(), this.#timing.ping_ms);
    const phase: Phase = { name: "open", socket, ping, linger: undefined };
    this.#phase = phase;
    this.#heard_at_ms = performance.now();
    socket.addEventListener("message", (event) => {
      if (this.#phase === phase) this.#heard(event.data);
    });
    const onLost = () => {
      if (this.#phase === phase) this.#lost("the link broke");
    };
    socket.addEventListener("close", onLost);
    socket.addEventListener("error", onLost);
    for (const call of this.#calls.values()) {
      if (call.ended_by_gateway) continue;
      this.#sendCall(call);
      if (call.cancel_reason !== undefined) this.#sendCancel(call);
    }
    if (this.in_flight === 0) phase.linger = setTimeout(() => this.#down(1000, "idle"), this.#timing.linger_ms);
  }

  #heard(data: string | ArrayBuffer | Blob): void {
    this.#heard_at_ms = performance.now();
    const frame = typeof data === "string" ? parseLinkFrame(data) : undefined;
    if (!frame) return this.#lost("the gateway sent a frame that is not one of the protocol's");
    switch (frame.type) {
      case "welcome":
        return;
      case "pong":
        this.#wellAgain();
        return;
      case "fault":
        if (ERRORS[frame.error.code].retryable) return this.#lost(frame.error.detail ?? frame.error.code);
        this.#endAll(toFailure(frame.error));
        return;
      case "accepted":
      case "queued":
      case "token":
      case "done":
      case "refused":
        this.#wellAgain();
        this.#deliver(frame);
        return;
    }
  }

  #deliver(frame: GatewayFrame): void {
    const call = this.#calls.get(frame.call);
    if (!call) return; // It ended here first; the gateway's word for it was on the way.
    switch (call.receive(frame)) {
      case "taken":
      case "duplicate":
        return;
      case "gap":
        return this.#lost(`call ${frame.call} jumped to frame ${"n" in frame ? frame.n : "?"}`);
      case "overflow":
        this.#send({ type: "cancel", call: frame.call, reason: "slow_reader" });
        call.end(failure("slow_reader", "the call's output was not stored fast enough"));
        return;
    }
  }

  /** A half-open socket shows no error: only silence tells. */
  #pulse(): void {
    if (this.in_flight === 0) return;
    if (performance.now() - this.#heard_at_ms > this.#timing.silence_ms_max) this.#lost("the gateway fell silent");
    else this.#send({ type: "ping", t: Math.round(performance.now()) });
  }

  #wellAgain(): void {
    this.#failures = 0;
    this.#away_since_ms = undefined;
  }

  #lost(detail: string): void {
    this.#down(1011, "lost");
    if (this.in_flight === 0) return;
    const now_ms = performance.now();
    this.#away_since_ms ??= now_ms;
    if (now_ms - this.#away_since_ms >= this.#timing.away_ms_max) {
      for (const call of [...this.#waiting.values(), ...this.#calls.values()]) {
        call.end(failure(call.begun ? "gateway_lost" : "gateway_unavailable", `away for ${this.#timing.away_ms_max} ms: ${detail}`));
      }
      this.#wellAgain();
      return;
    }
    const timer = setTimeout(() => void this.#connect(), backoffMs(this.#timing, this.#failures, this.#random));
    this.#failures += 1;
    this.#phase = { name: "backing_off", timer };
  }

  #down(code?: number, reason?: string): void {
    const phase = this.#phase;
    this.#phase = { name: "down" };
    if (phase.name === "connecting") phase.abort.abort();
    if (phase.name === "backing_off") clearTimeout(phase.timer);
    if (phase.name !== "open") return;
    clearInterval(phase.ping);
    if (phase.linger !== undefined) clearTimeout(phase.linger);
    try {
      phase.socket.close(code, reason);
    } catch {
      // Already closed by the other end.
    }
  }

  #endAll(error: Failure): void {
    for (const call of [...this.#waiting.values(), ...this.#calls.values()]) call.end(error);
  }

  #send(frame: LinkFromEdge): void {
    if (this.#phase.name !== "open") return;
    try {
      this.#phase.socket.send(JSON.stringify(frame));
    } catch {
      this.#lost("the link broke");
    }
  }
}
