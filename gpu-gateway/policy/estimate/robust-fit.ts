/**
 * A line (or plane) through durations that keep coming: recursive least squares with forgetting, whose outliers count for little.
 * Each duration is compared with what was expected; one that is off by several times what is usual is pulled in to that distance
 * before it teaches anything (Huber's function), so that a pause of an engine does not become its speed. State: an n × n matrix, n
 * coefficients and a scale; nothing grows.
 */
export type RobustFitOptions = {
  /** What is believed before anything was seen. */
  readonly prior: readonly number[];
  /** How far each belief may be off, in its own unit: the larger, the faster it is given up. */
  readonly prior_spread: readonly number[];
  /** Below 1: an older sample counts for so much of the next. 0.99 remembers about a hundred. */
  readonly forgetting: number;
};

/** Off by more than this many times what is usual: an outlier. */
const OUTLIER_TIMES = 3;
const SCALE_WEIGHT = 1 / 32;
/** While nothing new is learned in some direction, forgetting would let the matrix grow without end. */
const SPREAD_MAX = 1e12;

export class RobustFit {
  readonly #coefficients: number[];
  /** Row by row. */
  readonly #spread: number[];
  readonly #spread_max: readonly number[];
  readonly #forgetting: number;
  /** What a residual usually is; null before the first. */
  #scale: number | null = null;
  #samples = 0;

  constructor({ prior, prior_spread, forgetting }: RobustFitOptions) {
    this.#coefficients = [...prior];
    this.#forgetting = forgetting;
    const n = prior.length;
    this.#spread = Array.from({ length: n * n }, (_, at) => (at % (n + 1) === 0 ? (prior_spread[at / (n + 1)] ?? 0) ** 2 : 0));
    this.#spread_max = prior_spread.map((spread) => Math.min(SPREAD_MAX, spread ** 2));
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
    const residual = seen - this.predict(features);
    const distance = Math.abs(residual);
    const usual = this.#scale ?? distance;
    const limit = OUTLIER_TIMES * usual;
    const pulled = distance > limit ? Math.sign(residual) * limit : residual;
    this.#scale = Math.max(1, usual + (Math.min(distance, limit) - usual) * SCALE_WEIGHT);
    this.#samples += 1;

    // In units of the usual residual, so that the prior's spread and the noise compare.
    const noise = this.#scale ** 2;
    const gain: number[] = [];
    let along = 0;
    for (let i = 0; i < n; i++) {
      let sum = 0;
      for (let j = 0; j < n; j++) sum += (this.#spread[i * n + j] ?? 0) * (features[j] ?? 0);
      gain.push(sum);
      along += sum * (features[i] ?? 0);
    }
    const divisor = noise * this.#forgetting + along;
    for (let i = 0; i < n; i++) this.#coefficients[i] = (this.#coefficients[i] ?? 0) + ((gain[i] ?? 0) / divisor) * pulled;
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++) {
        const next = ((this.#spread[i * n + j] ?? 0) - ((gain[i] ?? 0) * (gain[j] ?? 0)) / divisor) / this.#forgetting;
        this.#spread[i * n + j] = next;
      }
    this.#keepBounded(n);
  }

  /** Scales rows and columns back, so that no belief becomes more uncertain than it was at first, and the matrix stays symmetric. */
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
