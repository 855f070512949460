/**
 * One link between a session and the gateway, as lossy as a network is: frames take a while, in order, and when it is cut those under
 * way are gone in both directions. What goes over it are the frames of schema/core/wire/link.ts; the gateway's end drives the real
 * LinkReader, so that numbering, credit and resumption here are those that serve live.
 */
import type { CallId } from "../../../schema/core/ids.ts";
import type { Micros } from "../../../schema/core/time.ts";
import type { LinkFromEdge, LinkFromGateway } from "../../../schema/core/wire/link.ts";
import type { LinkReader, LinkSender } from "../../server/link/reader.ts";

export type LinkClock = { now(): Micros; at(instant: Micros, act: () => void): void };

/** Frames to the session under way at once: beyond it the socket takes no more, and output grows together where it waits. */
export const FRAMES_UNDER_WAY_MAX = 32;

export interface LinkEdge {
  receive(link: SimLink, frame: LinkFromGateway): void;
  cut(link: SimLink): void;
}
export interface LinkDoor {
  receive(link: SimLink, frame: LinkFromEdge): void;
  cut(link: SimLink): void;
}

export class SimLink implements LinkSender {
  /** The calls that are told on this link. */
  readonly readers = new Map<CallId, LinkReader>();
  readonly #clock: LinkClock;
  readonly #delay: Micros;
  readonly #edge: LinkEdge;
  readonly #door: LinkDoor;
  #open = true;
  #under_way = 0;

  constructor(clock: LinkClock, delay: Micros, edge: LinkEdge, door: LinkDoor) {
    this.#clock = clock;
    this.#delay = delay;
    this.#edge = edge;
    this.#door = door;
  }

  get congested(): boolean {
    return this.#under_way >= FRAMES_UNDER_WAY_MAX;
  }
  get under_way(): number {
    return this.#under_way;
  }

  /** From the gateway. */
  send(frame: LinkFromGateway): void {
    if (!this.#open) return;
    this.#under_way += 1;
    this.#after(() => {
      const was_congested = this.congested;
      this.#under_way -= 1;
      this.#edge.receive(this, frame);
      if (was_congested) for (const reader of this.readers.values()) reader.wake();
    });
  }

  finished(reader: LinkReader): void {
    reader.call.output.detach(reader);
    this.readers.delete(reader.call.call.call_id);
  }

  /** From the session. */
  say(frame: LinkFromEdge): void {
    if (this.#open) this.#after(() => this.#door.receive(this, frame));
  }

  /** Both ends notice at once: a half-open link is one whose cut comes later. */
  cut(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#door.cut(this);
    this.#edge.cut(this);
  }

  #after(act: () => void): void {
    this.#clock.at((this.#clock.now() + this.#delay) as Micros, () => {
      if (this.#open) act();
    });
  }
}
