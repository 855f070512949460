/** The effects of the event being handled, in order, and the counter that names those which have an outcome. */
import type { Effect } from "../effects.ts";

export class Outbox {
  #effects: Effect[] = [];
  #named = 0;

  emit(effect: Effect): void {
    this.#effects.push(effect);
  }

  nextEffectId(): string {
    this.#named += 1;
    return `e${this.#named}`;
  }

  take(): readonly Effect[] {
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }
}
