/** Sequences that wait for room, the first in front: a binary heap. Those that were aborted meanwhile are dropped when they come up. */
import { before, type EngineRequest, type Sequence } from "./sequence.ts";

export class Waiting<R extends EngineRequest> {
  readonly #heap: Sequence<R>[] = [];

  add(sequence: Sequence<R>): void {
    const heap = this.#heap;
    let place = heap.length;
    heap.push(sequence);
    while (place > 0) {
      const up = (place - 1) >> 1;
      const parent = heap[up];
      if (parent === undefined || before(parent, sequence)) break;
      heap[place] = parent;
      place = up;
    }
    heap[place] = sequence;
  }

  first(): Sequence<R> | undefined {
    for (let first = this.#heap[0]; first !== undefined; first = this.#heap[0]) {
      if (first.state === "waiting") return first;
      this.removeFirst();
    }
    return undefined;
  }

  removeFirst(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let place = 0;
    for (;;) {
      let down = 2 * place + 1;
      let child = heap[down];
      const right = heap[down + 1];
      if (child !== undefined && right !== undefined && before(right, child)) {
        down += 1;
        child = right;
      }
      if (child === undefined || before(last, child)) break;
      heap[place] = child;
      place = down;
    }
    heap[place] = last;
  }

  clear(): void {
    this.#heap.length = 0;
  }
}
