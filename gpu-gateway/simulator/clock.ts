/**
 * Virtual time: what is to happen, in order of time, and at one instant in the order in which it was asked for (I9). A binary heap over
 * parallel arrays, so that an event of an engine, which happens a million times, costs no object.
 */
export interface Task {
  run(): void;
}

/** Asked for with `first`: before all else of its instant. Far more than a run has events. */
const FIRST = -(2 ** 52);

export class VirtualClock {
  now = 0;
  #asked = 0;
  #size = 0;
  #at = new Float64Array(1_024);
  #order = new Float64Array(1_024);
  readonly #tasks: (Task | null)[] = [];

  /** An instant that has passed means now. */
  schedule(at: number, task: Task): void {
    this.#push(Math.max(at, this.now), this.#asked++, task);
  }

  /** Before anything else at that instant. */
  scheduleFirst(at: number, task: Task): void {
    this.#push(Math.max(at, this.now), FIRST + this.#asked++, task);
  }

  /** Runs once at its instant, unless it was cancelled before. */
  alarm(at: number, act: () => void): Alarm {
    const alarm = new Alarm(act);
    this.schedule(at, alarm);
    return alarm;
  }

  /** Infinity: nothing is to happen. */
  nextAt(): number {
    return this.#size === 0 ? Number.POSITIVE_INFINITY : (this.#at[0] ?? 0);
  }

  /** Lets the next thing happen. */
  runNext(): void {
    const task = this.#tasks[0];
    if (this.#size === 0 || task === undefined || task === null) return;
    this.now = this.#at[0] ?? 0;
    this.#dropFirst();
    task.run();
  }

  /** Nothing more happens before that instant. */
  passTo(at: number): void {
    this.now = Math.max(this.now, at);
  }

  #push(at: number, order: number, task: Task): void {
    if (this.#size === this.#at.length) this.#grow();
    let place = this.#size++;
    while (place > 0) {
      const up = (place - 1) >> 1;
      if (!this.#after(up, at, order)) break;
      this.#move(up, place);
      place = up;
    }
    this.#put(place, at, order, task);
  }

  #dropFirst(): void {
    const last = --this.#size;
    const at = this.#at[last] ?? 0;
    const order = this.#order[last] ?? 0;
    const task = this.#tasks[last] ?? null;
    this.#tasks[last] = null;
    if (last === 0) return;
    let place = 0;
    for (;;) {
      let down = 2 * place + 1;
      if (down >= last) break;
      const right = down + 1;
      if (right < last && this.#after(down, this.#at[right] ?? 0, this.#order[right] ?? 0)) down = right;
      if (this.#after(down, at, order)) break;
      this.#move(down, place);
      place = down;
    }
    this.#put(place, at, order, task);
  }

  /** What stands at the place comes after this. */
  #after(place: number, at: number, order: number): boolean {
    const there = this.#at[place] ?? 0;
    return there > at || (there === at && (this.#order[place] ?? 0) > order);
  }

  #move(from: number, to: number): void {
    this.#put(to, this.#at[from] ?? 0, this.#order[from] ?? 0, this.#tasks[from] ?? null);
  }

  #put(place: number, at: number, order: number, task: Task | null): void {
    this.#at[place] = at;
    this.#order[place] = order;
    this.#tasks[place] = task;
  }

  #grow(): void {
    const at = new Float64Array(this.#at.length * 2);
    const order = new Float64Array(this.#at.length * 2);
    at.set(this.#at);
    order.set(this.#order);
    this.#at = at;
    this.#order = order;
  }
}

/** Of VirtualClock.alarm. */
export class Alarm implements Task {
  #act: (() => void) | null;

  constructor(act: () => void) {
    this.#act = act;
  }

  run(): void {
    this.#act?.();
  }

  /** What it would have done is let go of at once; the alarm itself stays in the heap until its instant. */
  cancel(): void {
    this.#act = null;
  }
}

/** Every `period`, for ever. */
export class Tick implements Task {
  readonly #clock: VirtualClock;
  readonly #period: number;
  readonly #act: () => void;
  stopped = false;

  constructor(clock: VirtualClock, period: number, act: () => void) {
    this.#clock = clock;
    this.#period = period;
    this.#act = act;
    clock.schedule(clock.now + period, this);
  }

  run(): void {
    if (this.stopped) return;
    this.#act();
    this.#clock.schedule(this.#clock.now + this.#period, this);
  }
}
