/**
 * I9: the same events at the same times give the same effects, byte for byte. A second scheduler, made as the first was, is fed in lockstep
 * and must say the same; everything said goes into a digest, by which two runs of a scenario are compared.
 */
import type { Micros } from "../../../schema/core/time.ts";
import type { Effect } from "../../policy/effects.ts";
import type { SchedulerEvent } from "../../policy/events.ts";
import type { Scheduler, SchedulerSnapshot } from "../../policy/scheduler.ts";
import { Books } from "./checker.ts";

export class SameEffectsChecker extends Books {
  readonly invariant = "I9";
  readonly #make: (epoch: number) => Scheduler;
  readonly #said: (line: string) => void;
  #second: Scheduler | null = null;

  constructor(make: (epoch: number) => Scheduler, said: (line: string) => void) {
    super();
    this.#make = make;
    this.#said = said;
  }

  gatewayStarted(epoch: number): void {
    this.#second = this.#make(epoch);
  }
  gatewayDied(): void {
    this.#second = null;
  }

  /** Of the second scheduler, which by this invariant is the first one's too. */
  snapshot(): SchedulerSnapshot | null {
    return this.#second?.snapshot() ?? null;
  }

  event(event: SchedulerEvent, effects: readonly Effect[], now: Micros): void {
    const said = JSON.stringify(effects);
    this.#said(`${now} ${JSON.stringify(event)} ${said}`);
    if (this.#second === null) return;
    const again = JSON.stringify(this.#second.handle(event, now));
    this.check(again === said, now, () => `to ${event.type} one scheduler says ${shortened(said)}, another ${shortened(again)}`);
  }
}

const shortened = (text: string): string => (text.length <= 400 ? text : `${text.slice(0, 400)}…`);
