/** Seeded randomness for generated workloads: same seed, same workload, on every machine. */

export interface Random {
  /** In [0, 1), of 32 bits. */
  next(): number;
  /** A stream of its own, which draws from this one do not move. */
  fork(label: number): Random;
}

/** xoshiro128** (Blackman & Vigna), seeded by SplitMix32. */
export function seeded(seed: number): Random {
  const words = new Uint32Array(4);
  let z = seed >>> 0;
  for (let i = 0; i < 4; i++) {
    z = (z + 0x9e3779b9) >>> 0;
    let h = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    words[i] = h ^ (h >>> 16);
  }
  let [a, b, c, d] = [words[0] ?? 0, words[1] ?? 0, words[2] ?? 0, words[3] ?? 0];
  return {
    next() {
      const x = Math.imul(b, 5);
      const result = Math.imul((x << 7) | (x >>> 25), 9) >>> 0;
      const t = b << 9;
      c ^= a;
      d ^= b;
      b ^= c;
      a ^= d;
      c ^= t;
      d = (d << 11) | (d >>> 21);
      return result / 4_294_967_296;
    },
    fork: (label) => seeded(Math.imul(seed ^ 0x6a09e667, 0x9e3779b1) + Math.imul(label + 1, 0x85ebca6b)),
  };
}

/** Of mean 1. */
export const exponential = (random: Random): number => -Math.log(1 - random.next());

/** Standard normal (Box and Muller); one draw of two is thrown away, so that each call draws the same number. */
export function normal(random: Random): number {
  const radius = Math.sqrt(-2 * Math.log(1 - random.next()));
  return radius * Math.cos(2 * Math.PI * random.next());
}
