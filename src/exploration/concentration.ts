/** Concentration inequalities that hold for all sample sizes at once. */
import type { Counts } from "./counts.ts";

/**
 * Empirical Bernstein bound (Maurer & Pontil 2009, theorem 4) on the distance of a mean of n values in [0, range] from its
 * expectation, in one direction, with probability 1 - delta for all n >= 2 at once: sample size n takes
 * delta / (n (n + 1)), and these add up to less than delta.
 */
export function bernstein(n: number, sum: number, squares: number, range: number, delta: number): number {
  if (n < 2) return range;
  const logarithm = Math.log((2 * n * (n + 1)) / delta);
  const variance = Math.max(0, (squares - (sum * sum) / n) / (n - 1));
  return Math.sqrt((2 * variance * logarithm) / n) + (7 * range * logarithm) / (3 * (n - 1));
}

/** The bonus of estimated rewards: both directions of all rows (h, s, a) together take `delta`. */
export function rewardBonus({ visits, rewardSum, rewardSquares }: Counts, row: number, delta: number): number {
  return bernstein(visits[row]!, rewardSum[row]!, rewardSquares[row]!, 1, delta / (2 * visits.length));
}

/**
 * With probability 1 - delta, KL(p^_n, p) <= klRadius(n) for all n at once, where p^_n are the frequencies of n draws from
 * a distribution p over `outcomes` values (Jonsson et al. 2020, proposition 1).
 */
export function klRadius(n: number, outcomes: number, delta: number): number {
  const free = outcomes - 1;
  if (free === 0) return 0;
  return (Math.log(1 / delta) + free * Math.log(Math.E * (1 + n / free))) / n;
}

/**
 * A lower bound on the least q v over all distributions q with KL(weights, q) <= radius, for values v >= 0 of the outcomes
 * that were observed; q may also give mass to others, whose value is at least 0.
 *
 * For every x >= 0 Jensen's inequality gives  log(q v + x) >= sum_i w_i log(q_i (v_i + x) / w_i) >= sum_i w_i log(v_i + x) -
 * radius, so  exp(sum_i w_i log(v_i + x) - radius) - x  is a lower bound, whatever x; the best x attains the least q v. It
 * is found by Newton's method, and stopping early costs tightness, never validity.
 */
export function lowestMean(weights: Float64Array, values: Float64Array, count: number, radius: number): number {
  let mean = 0;
  let squares = 0;
  let least = Infinity;
  for (let i = 0; i < count; i++) {
    const value = values[i]!;
    mean += weights[i]! * value;
    squares += weights[i]! * value * value;
    if (value < least) least = value;
  }
  if (mean <= 0 || radius === 0) return Math.max(0, mean);
  // Where the radius is small, the least mean is mean - sqrt(2 variance radius), attained at this x.
  const guess = Math.sqrt(Math.max(0, squares - mean * mean) / (2 * radius)) - mean;
  let x = Math.max(guess, 1e-3 * mean);
  let best = 0;
  for (let iteration = 0; iteration < 12; iteration++) {
    // sums of w log(v + x), w / (v + x), w / (v + x)^2
    let logs = 0;
    let first = 0;
    let second = 0;
    for (let i = 0; i < count; i++) {
      const inverse = 1 / (values[i]! + x);
      const weighted = weights[i]! * inverse;
      logs -= weights[i]! * Math.log(inverse);
      first += weighted;
      second += weighted * inverse;
    }
    best = Math.max(best, Math.exp(logs - radius) - x);
    // The derivative in x has the sign of logs + log(first) - radius, which falls with x.
    const slope = first - second / first;
    const step = slope < 0 ? (logs + Math.log(first) - radius) / slope : 0;
    const next = x - step > 0 ? x - step : x / 8;
    if (Math.abs(next - x) <= 1e-4 * x) break;
    x = next;
    // With every value above zero the best x may be zero itself.
    if (x < 1e-6 * least) x = 0;
    if (x === 0 && least > 0) {
      let atZero = 0;
      for (let i = 0; i < count; i++) atZero += weights[i]! * Math.log(values[i]!);
      return Math.max(best, Math.exp(atZero - radius));
    }
  }
  return best;
}

/**
 * A lower bound on the expectation of values in [0,1] that are observed one by one; with probability 1 - delta it holds
 * after every one of them (Waudby-Smith & Ramdas 2024, theorem 2, the lower side). With predictable weights l_t in (0, 1/2]:
 *
 *   sum l_t x_t / sum l_t - (log(1/delta) + sum (x_t - m_{t-1})^2 (-log(1 - l_t) - l_t)) / sum l_t
 *
 * Because it holds at all times at once, the largest so far counts.
 */
export class MeanBound {
  readonly #logarithm: number;
  readonly #scale: number;
  /** Number, sum and spread of the values; sums of weights, weighted values and penalties; the best bound. */
  readonly #sums: Float64Array;

  /** `scale` multiplies what is subtracted; the theorem needs 1. */
  constructor(delta: number, scale: number) {
    this.#logarithm = Math.log(1 / delta);
    this.#scale = scale;
    this.#sums = new Float64Array(7);
  }

  get count(): number {
    return this.#sums[0]!;
  }

  get lower(): number {
    return this.#sums[6]!;
  }

  add(x: number): void {
    const sums = this.#sums;
    const t = sums[0]! + 1;
    const before = (0.5 + sums[1]!) / t;
    const variance = (0.25 + sums[2]!) / t;
    const weight = Math.min(0.5, Math.sqrt((2 * this.#logarithm) / (variance * t * Math.log(1 + t))));
    sums[0] = t;
    sums[1]! += x;
    sums[2]! += (x - (0.5 + sums[1]!) / (t + 1)) ** 2;
    sums[3]! += weight;
    sums[4]! += weight * x;
    sums[5]! += (x - before) ** 2 * (-Math.log1p(-weight) - weight);
    const bound = (sums[4]! - this.#scale * (this.#logarithm + sums[5]!)) / sums[3]!;
    sums[6] = Math.max(sums[6]!, bound);
  }

  toJSON(): number[] {
    return [...this.#sums];
  }

  restore(sums: ArrayLike<number>): void {
    this.#sums.set(sums);
  }
}
