/**
 * Seeded randomness (xoshiro128**, Blackman and Vigna 2018; seeded by splitmix32). The same seed gives the same draws in every
 * process. `fork` gives a stream of its own to each part of a scenario, so that what one part draws does not move the others.
 */
export class Random {
  readonly #state: [number, number, number, number];

  constructor(seed: number, label = "") {
    let mixing = (seed ^ 0x9e37_79b9) >>> 0;
    for (let i = 0; i < label.length; i++) mixing = Math.imul(mixing ^ label.charCodeAt(i), 0x0100_0193) >>> 0;
    const next = (): number => {
      mixing = (mixing + 0x9e37_79b9) >>> 0;
      let z = mixing;
      z = Math.imul(z ^ (z >>> 16), 0x85eb_ca6b);
      z = Math.imul(z ^ (z >>> 13), 0xc2b2_ae35);
      return (z ^ (z >>> 16)) >>> 0;
    };
    this.#state = [next(), next(), next(), next()];
  }

  /** 32 bits. */
  bits(): number {
    const s = this.#state;
    const result = Math.imul(rotated(Math.imul(s[1], 5), 7), 9) >>> 0;
    const shifted = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotated(s[3], 11);
    return result;
  }

  /** 0 … n − 1. */
  below(n: number): number {
    return Math.floor((this.bits() / 2 ** 32) * n);
  }

  /** Both ends included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  /** True in `percent` of a hundred draws. */
  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  pick<T>(list: readonly [T, ...T[]]): T {
    return list[this.below(list.length)] ?? list[0];
  }

  fork(label: string): Random {
    return new Random(this.bits(), label);
  }
}

const rotated = (x: number, by: number): number => (x << by) | (x >>> (32 - by));
