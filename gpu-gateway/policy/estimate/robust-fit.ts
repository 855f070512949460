/**
 * A line (or plane) through durations that keep coming: recursive least squares with forgetting, whose outliers count for little.
 * Each duration is compared with what was expected; one that is off by several times what is usual is pulled in to that distance
 * before it teaches anything (Huber's function), so that a pause of an engine does not become its speed. State: an n × n matrix, n
 * coefficients and a scale; nothing grows.
 */
export type RobustFitOptions = {
  /** What is believed before anything was seen. */
  readonly prior: readonly number[];
  /** How far each belief may be off, in its own unit, and a sample, in its: the larger their ratio, the faster the belief is given up. */
  readonly prior_spread: readonly number[];
  readonly noise: number;
  /** Below 1: an older sample counts for so much of the next. 0.99 remembers about a hundred. */
  readonly forgetting: number;
};

/** Off by more than this many times what is usual: an outlier. */
const OUTLIER_TIMES = 3;
const SCALE_WEIGHT = 1 / 32;
/** Of what is expected: a fit that has been exact for long must still believe an engine that has changed. */
const SCALE_SHARE_MIN = 0.05;
export class RobustFit {
  readonly #coefficients: number[];
  /** Row by row. */
  readonly #spread: number[];
  readonly #spread_max: readonly number[];
  readonly #forgetting: number;
  /** What a residual usually is; null before the first. */
  #scale: number | null = null;
  #samples = 0;

  constructor({ prior, prior_spread, noise, forgetting }: RobustFitOptions) {
    this.#coefficients = [...prior];
    this.#forgetting = forgetting;
    const n = prior.length;
    this.#spread = Array.from({ length: n * n }, (_, at) => (at % (n + 1) === 0 ? ((prior_spread[at / (n + 1)] ?? 0) / noise) ** 2 : 0));
    this.#spread_max = prior_spread.map((spread) => (spread / noise) ** 2);
  }

  get samples(): number {
    return this.#samples;
  }

  get coefficients(): readonly number[] {
    return this.#coefficients;
  }

  predict(features: readonly number[]): number {
    let sum = 0;
    for (let i = 0; i < features.length; i++) sum += (features[i] ?? 0) * (this.#coefficients[i] ?? 0);
    return sum;
  }

  /** As `predict`, with nothing that takes less time the more of it there is: noise may say so, far from what was seen. */
  predictGrowing(features: readonly number[]): number {
    let sum = 0;
    for (let i = 0; i < features.length; i++) sum += (features[i] ?? 0) * Math.max(0, this.#coefficients[i] ?? 0);
    return sum;
  }

  learn(features: readonly number[], seen: number): void {
    const n = this.#coefficients.length;
    const expected = this.predict(features);
    const residual = seen - expected;
    const distance = Math.abs(residual);
    const usual = Math.max(this.#scale ?? distance, Math.abs(expected) * SCALE_SHARE_MIN);
    const limit = OUTLIER_TIMES * usual;
    const pulled = distance > limit ? Math.sign(residual) * limit : residual;
    this.#scale = Math.max(1, usual + (Math.min(distance, limit) - usual) * SCALE_WEIGHT);
    this.#samples += 1;

    const gain: number[] = [];
    let along = 0;
    for (let i = 0; i < n; i++) {
      let sum = 0;
      for (let j = 0; j < n; j++) sum += (this.#spread[i * n + j] ?? 0) * (features[j] ?? 0);
      gain.push(sum);
      along += sum * (features[i] ?? 0);
    }
    const divisor = this.#forgetting + along;
    for (let i = 0; i < n; i++) this.#coefficients[i] = (this.#coefficients[i] ?? 0) + ((gain[i] ?? 0) / divisor) * pulled;
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++) {
        const next = ((this.#spread[i * n + j] ?? 0) - ((gain[i] ?? 0) * (gain[j] ?? 0)) / divisor) / this.#forgetting;
        this.#spread[i * n + j] = next;
      }
    this.#keepBounded(n);
  }

  /** Where nothing is learned, forgetting would let uncertainty grow without end: no belief becomes less certain than at first. */
  #keepBounded(n: number): void {
    for (let i = 0; i < n; i++) {
      const now = this.#spread[i * n + i] ?? 0;
      const most = this.#spread_max[i] ?? 0;
      if (now <= most) continue;
      const factor = Math.sqrt(most / now);
      for (let j = 0; j < n; j++) {
        this.#spread[i * n + j] = (this.#spread[i * n + j] ?? 0) * factor;
        this.#spread[j * n + i] = (this.#spread[j * n + i] ?? 0) * factor;
      }
    }
  }
}
