/**
 * Everything that waits for an instant, earliest first. A binary heap whose members know their place, so that a timer can be
 * moved or cleared in O(log n): a call that ends takes its deadline with it, and the heap is never larger than what lives.
 * Equal instants fire in the order in which the timers were made (I9).
 */
import type { Micros } from "../../../schema/core/time.ts";

export class Timer {
  readonly fire: (now: Micros) => void;
  at: Micros = 0 as Micros;
  made = 0;
  place = -1;

  constructor(fire: (now: Micros) => void) {
    this.fire = fire;
  }
}

export class Timers {
  readonly #heap: Timer[] = [];
  #made = 0;

  get size(): number {
    return this.#heap.length;
  }

  earliest(): Micros | null {
    return this.#heap[0]?.at ?? null;
  }

  set(timer: Timer, at: Micros): void {
    if (timer.place >= 0) {
      if (timer.at === at) return;
      timer.at = at;
    } else {
      if (timer.made === 0) timer.made = ++this.#made;
      timer.at = at;
      timer.place = this.#heap.length;
      this.#heap.push(timer);
    }
    this.#settle(timer);
  }

  clear(timer: Timer): void {
    const place = timer.place;
    if (place < 0) return;
    timer.place = -1;
    const last = this.#heap.pop();
    if (last === undefined || last === timer) return;
    last.place = place;
    this.#heap[place] = last;
    this.#settle(last);
  }

  /** Takes out and returns the earliest timer that is due. */
  due(now: Micros): Timer | null {
    const first = this.#heap[0];
    if (first === undefined || first.at > now) return null;
    this.clear(first);
    return first;
  }

  #settle(timer: Timer): void {
    const heap = this.#heap;
    let place = timer.place;
    while (place > 0) {
      const up = (place - 1) >> 1;
      const parent = heap[up];
      if (parent === undefined || before(parent, timer)) break;
      heap[place] = parent;
      parent.place = place;
      place = up;
    }
    for (;;) {
      let down = 2 * place + 1;
      let child = heap[down];
      const right = heap[down + 1];
      if (child !== undefined && right !== undefined && before(right, child)) {
        down += 1;
        child = right;
      }
      if (child === undefined || before(timer, child)) break;
      heap[place] = child;
      child.place = place;
      place = down;
    }
    heap[place] = timer;
    timer.place = place;
  }
}

const before = (a: Timer, b: Timer): boolean => a.at < b.at || (a.at === b.at && a.made < b.made);
