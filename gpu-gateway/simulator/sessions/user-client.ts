/**
 * The client of a session's user: connected for a while, cut, connected again from the last `seq` that it has. What it was shown before a cut
 * and did not receive comes again; what it has never comes twice (I4).
 */
import type { Micros } from "../../../schema/core/time.ts";
import type { EdgeSession } from "./edge-session.ts";
import type { Logged, SessionFact } from "./facts.ts";
import type { LinkClock } from "./link.ts";

export class UserClient {
  readonly #session: EdgeSession;
  readonly #clock: LinkClock;
  readonly #delay: Micros;
  readonly #reconnect: Micros;
  readonly #tell: (fact: SessionFact) => void;
  /** Of the present socket; null: there is none. */
  #socket: { open: boolean } | null = null;
  #seen = 0;

  constructor(
    session: EdgeSession,
    clock: LinkClock,
    times: { readonly delay: Micros; readonly reconnect: Micros },
    tell: (fact: SessionFact) => void,
  ) {
    this.#session = session;
    this.#clock = clock;
    this.#delay = times.delay;
    this.#reconnect = times.reconnect;
    this.#tell = tell;
  }

  /** Null: it has all that its session stored. */
  get behind(): string | null {
    const { session, last_seq } = this.#session;
    return this.#seen === last_seq ? null : `the client of ${session} has ${this.#seen} of ${last_seq} events`;
  }

  /** `hello {resume_from}`: the session shows all that comes after it, then what is stored from there on. */
  connect(): void {
    if (this.#socket !== null) return;
    const socket = { open: true };
    this.#socket = socket;
    this.#session.attach(this);
    this.show(this.#session.eventsAfter(this.#seen));
  }

  cut(): boolean {
    if (this.#socket === null) return false;
    this.#socket.open = false;
    this.#socket = null;
    this.#session.attach(null);
    this.#clock.at((this.#clock.now() + this.#reconnect) as Micros, () => this.connect());
    return true;
  }

  /** From the session, over the present socket: arrives in order, unless it is cut before. */
  show(events: readonly Logged[]): void {
    const socket = this.#socket;
    if (socket === null || events.length === 0) return;
    this.#clock.at((this.#clock.now() + this.#delay) as Micros, () => {
      if (!socket.open) return;
      for (const event of events) {
        this.#seen = event.seq;
        this.#tell({ type: "seen", session: this.#session.session, event });
      }
    });
  }
}
