/** Waiting in tests: on a condition, with a bound, never for a length of time. A bound that is met is a failure that says what was awaited. */
const UNTIL_BOUND_MS = 10_000;
const UNTIL_LOOK_MS = 5;

/** Resolves with the first value of `look` that is neither false, null nor undefined. An error in `look` ends the wait. */
export async function until<T>(
  what: string,
  look: () => T | Promise<T>,
  bound_ms = UNTIL_BOUND_MS,
): Promise<Exclude<T, false | null | undefined>> {
  const give_up = performance.now() + bound_ms;
  for (;;) {
    const value = await look();
    if (value !== false && value !== null && value !== undefined) return value as Exclude<T, false | null | undefined>;
    if (performance.now() > give_up) throw new Error(`waited ${bound_ms} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, UNTIL_LOOK_MS));
  }
}

/** A promise with a bound: for a peer that may never answer. */
export async function within<T>(what: string, promise: Promise<T>, bound_ms = UNTIL_BOUND_MS): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`waited ${bound_ms} ms for ${what}`)), bound_ms);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
