/** Tenants with calls waiting, the one served least first; ties by tenant id (I9). A binary heap whose members know their place. */
import type { TenantId } from "../../../schema/core/ids.ts";

export class Account {
  readonly tenant: TenantId;
  /** Weighted tokens of service, lifted where service-counters.ts says so. */
  counter = 0;
  /** Calls waiting, and calls in flight. */
  queued = 0;
  running = 0;
  /** In the heap; below 0: not in it. */
  place = -1;

  constructor(tenant: TenantId) {
    this.tenant = tenant;
  }
}

export const servedLess = (a: Account, b: Account): boolean => a.counter < b.counter || (a.counter === b.counter && a.tenant < b.tenant);

export class AccountHeap {
  readonly #heap: Account[] = [];

  get all(): readonly Account[] {
    return this.#heap;
  }

  least(): Account | undefined {
    return this.#heap[0];
  }

  add(account: Account): void {
    account.place = this.#heap.length;
    this.#heap.push(account);
    this.#settle(account);
  }

  remove(account: Account): void {
    const { place } = account;
    if (place < 0) return;
    account.place = -1;
    const last = this.#heap.pop();
    if (last === undefined || last === account) return;
    last.place = place;
    this.#heap[place] = last;
    this.#settle(last);
  }

  /** Its counter has changed. */
  moved(account: Account): void {
    if (account.place >= 0) this.#settle(account);
  }

  #settle(account: Account): void {
    const heap = this.#heap;
    let place = account.place;
    while (place > 0) {
      const up = (place - 1) >> 1;
      const parent = heap[up];
      if (parent === undefined || servedLess(parent, account)) break;
      heap[place] = parent;
      parent.place = place;
      place = up;
    }
    for (;;) {
      let down = 2 * place + 1;
      let child = heap[down];
      const right = heap[down + 1];
      if (child !== undefined && right !== undefined && servedLess(right, child)) {
        down += 1;
        child = right;
      }
      if (child === undefined || servedLess(account, child)) break;
      heap[place] = child;
      child.place = place;
      place = down;
    }
    heap[place] = account;
    account.place = place;
  }
}
