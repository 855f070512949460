/**
 * Chance as a policy may use it: a generator inside the policy's state, from a seed that configuration gives, so that the same events
 * give the same effects (I9). Mulberry32 (Tommy Ettinger, public domain): fair enough to spread calls, useless for secrets.
 */
export type Seeded = {
  /** An integer from 0 up to, not including, `n`. */
  below(n: number): number;
};

export function seeded(seed: number): Seeded {
  let state = seed >>> 0;
  return {
    below(n) {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296) * n);
    },
  };
}
