/** Sends what the clients have to send, a link's delay from the gateway, and tells them how it ended. */
import { failure } from "../../schema/core/errors.ts";
import type { Micros } from "../../schema/core/time.ts";
import type { CallOutcome } from "../policy/vocabulary.ts";
import { CallEntry } from "./call-entry.ts";
import type { VirtualClock } from "./clock.ts";
import type { Gateway } from "./gateway.ts";
import type { Arrival, CallTimes, Clients, Observer, SimCall } from "./types.ts";

export class Driver {
  readonly calls: CallTimes[] = [];
  output_tokens = 0;
  readonly #clock: VirtualClock;
  readonly #clients: Clients;
  readonly #link_delay: number;
  readonly #observer: Observer;
  readonly #gateway: () => Gateway | null;
  /** Sent or to be sent, and not known to have ended. */
  #open = 0;
  #more = true;

  constructor(clock: VirtualClock, clients: Clients, link_delay: number, observer: Observer, gateway: () => Gateway | null) {
    this.#clock = clock;
    this.#clients = clients;
    this.#link_delay = link_delay;
    this.#observer = observer;
    this.#gateway = gateway;
  }

  get done(): boolean {
    return !this.#more && this.#open === 0;
  }

  /** The run is not done before what this returns has been called. */
  hold(): () => void {
    this.#open++;
    return () => this.#open--;
  }

  /** A call that is at the gateway now. Sent again while it is in flight, it is the same call. */
  submit(sim: SimCall): void {
    if (this.#gateway()?.again(sim.call.call_id) === true) return;
    this.#open++;
    this.#arrive({ at: this.#clock.now as Micros, sim });
  }

  /** One at a time, so that a long trace costs no memory. */
  next(): void {
    const arrival = this.#clients.first();
    if (arrival === null) {
      this.#more = false;
      return;
    }
    this.#open++;
    this.#clock.alarm(arrival.at, () => {
      this.next();
      this.#send(arrival);
    });
  }

  /** At the gateway; its client hears of it a link's delay later. */
  ended(entry: CallEntry, outcome: CallOutcome): void {
    this.#clock.alarm(this.#clock.now + this.#link_delay, () => {
      this.#open--;
      const { now } = this.#clock;
      const times = entry.times(outcome, now, this.#link_delay);
      this.calls.push(times);
      this.output_tokens += times.output_tokens;
      this.#observer.callEnded?.(times);
      for (const arrival of this.#clients.ended(entry.sim.call, outcome, now as Micros)) {
        this.#open++;
        this.#clock.alarm(arrival.at, () => this.#send(arrival));
      }
    });
  }

  #send(arrival: Arrival): void {
    const sent = { ...arrival, at: this.#clock.now as Micros };
    this.#clock.alarm(this.#clock.now + this.#link_delay, () => this.#arrive(sent));
  }

  #arrive(arrival: Arrival): void {
    const gateway = this.#gateway();
    if (gateway !== null) return gateway.submit(arrival);
    const { at, sim } = arrival;
    this.ended(new CallEntry(sim, sim.call, at), { type: "shed", failure: failure("gateway_unavailable") });
  }
}
