/** Concentration inequalities that hold for all sample sizes at once. */

import { ArgumentError } from "../../errors.ts";
import { checkCount, checkList, checkNumber } from "../mdp/reading.ts";
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

/** The bonus of estimated rewards. Both directions of all rows (h, s, a) together use up `delta`. */
export function rewardBonus({ visits, rewardSum, rewardSquares }: Counts, row: number, delta: number): number {
  return bernstein(visits[row]!, rewardSum[row]!, rewardSquares[row]!, 1, delta / (2 * visits.length));
}

/**
 * With probability 1 - delta, KL(p^_n, p) <= dirichletRadius for all n at once, where p^_n are the frequencies `times` / n of
 * n draws from a distribution p over `outcomes` values. The likelihood of the draws under the mixture of all distributions
 * with a Dirichlet(1/2, ..., 1/2) prior (Krichevsky & Trofimov 1981), over that under p, is a martingale; by Ville's
 * inequality it stays below 1 / delta. Its logarithm is n KL(p^_n, p) less the regret of the mixture, which is exact here.
 */
export function dirichletRadius(times: Float64Array, n: number, outcomes: number, delta: number): number {
  let regret = logGamma(n + outcomes / 2) - logGamma(outcomes / 2) - n * Math.log(n);
  for (const k of times) regret += k * Math.log(k) - logGamma(k + 0.5) + Math.log(Math.PI) / 2;
  return (Math.log(1 / delta) + regret) / n;
}

/**
 * With probability 1 - delta, mean log(1 + l (x - E x)) <= betRadius(n) for all n and all l in [0, 1 / E x] at once, where x
 * are n values in [0, 1]. The left side is the most that bets against the mean can have gained. Cover's universal portfolio earns
 * as much as the best l, except for log(sqrt(pi) Gamma(n+1) / Gamma(n+1/2)) <= log(pi n + 1) / 2, and its wealth is a
 * martingale (Orabona & Jun 2024).
 */
export function betRadius(n: number, delta: number): number {
  return (Math.log(1 / delta) + Math.log(Math.PI * n + 1) / 2) / n;
}

/**
 * A radius times the scale of the bonuses. Rounding can make it slightly negative (if n log n has 16 digits before the decimal
 * point), which counts as zero. If it is not a number, such as infinity times zero, the ball contains all distributions.
 */
export function scaledRadius(radius: number, scale: number): number {
  const scaled = scale * radius;
  return Number.isNaN(scaled) ? Infinity : Math.max(0, scaled);
}

/** log Gamma(x) for x >= 1/2: Stirling's series, from 10 upwards. */
function logGamma(x: number): number {
  let [shift, y] = [1, x];
  while (y < 10) shift *= y++;
  const square = 1 / (y * y);
  const series = (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680))) / y;
  return (y - 0.5) * Math.log(y) - y + 0.5 * Math.log(2 * Math.PI) + series - Math.log(shift);
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
  // A single outcome: as much of its weight as the radius allows moves to where the value is 0.
  if (count === 1) return values[0]! * Math.exp(-radius);
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
  // If the radius is small, the least mean is mean - sqrt(2 variance radius), attained at this x.
  const guess = Math.sqrt(Math.max(0, squares - mean * mean) / (2 * radius)) - mean;
  // x far above the mean is only needed for useless radii, and the difference below would consist of rounding errors.
  const most = 1e5 * mean;
  let x = Math.min(most, Math.max(guess, 1e-3 * mean));
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
    const next = x - step > 0 ? Math.min(most, x - step) : x / 8;
    if (Math.abs(next - x) <= 0.05 * x) break;
    x = next;
    // If every value is above zero, the best x may be exactly zero.
    if (x < 1e-6 * least) x = 0;
    if (x === 0 && least > 0) {
      let atZero = 0;
      for (let i = 0; i < count; i++) atZero += weights[i]! * Math.log(values[i]!);
      return Math.min(mean, Math.max(best, Math.exp(atZero - radius)));
    }
  }
  // The observed distribution lies in the ball, so only rounding (x is up to 1e5 times the mean) can give more than its mean.
  return Math.min(mean, best);
}

/**
 * Values are counted in this many equal bins of [0, 1], rounded down: a lower bound for the rounded values holds for
 * the values.
 */
const bins = 256;
/** The bound is a multiple of 1 / grid. */
const grid = 512;
/** The shares of capital that are bet; each bet starts with an equal part of the capital. */
const bets = Array.from({ length: 16 }, (_, j) => (j + 0.5) / 16);

/**
 * A lower bound on the expectation of values in [0, 1] that are observed one by one, by betting (Waudby-Smith & Ramdas 2024):
 * if it were m, the capital  mean over c of prod (1 - c + c x / m)  would be a martingale, and by Ville's inequality it would
 * stay below 1 / delta except with probability delta. So every m whose capital exceeds 1 / delta is below the expectation. The
 * capital falls with m, and this holds at all times at once, so the largest refuted m counts and only the next m of a grid has
 * to be watched.
 */
export class MeanBound {
  readonly #needed: number;
  readonly #seen = new Float64Array(bins + 1);
  /** How many m of the grid are refuted, and the logarithm of each bet's capital at the next one. */
  #refuted = 0;
  readonly #capital = new Float64Array(bets.length);

  /** `scale` multiplies the logarithm of the capital needed to refute; the theorem needs 1. */
  constructor(delta: number, scale: number) {
    this.#needed = scale * Math.log(1 / delta);
  }

  get lower(): number {
    return this.#refuted / grid;
  }

  add(x: number): void {
    const bin = Math.floor(Math.min(1, Math.max(0, x)) * bins);
    this.#seen[bin]!++;
    this.#bet(bin, 1);
    while (this.#gained() >= this.#needed) {
      this.#refuted++;
      this.#capital.fill(0);
      for (let seen = 0; seen <= bins; seen++) if (this.#seen[seen]! > 0) this.#bet(seen, this.#seen[seen]!);
    }
  }

  #bet(bin: number, times: number): void {
    const ratio = (bin / bins) * (grid / (this.#refuted + 1));
    for (let j = 0; j < bets.length; j++) this.#capital[j]! += times * Math.log(1 + bets[j]! * (ratio - 1));
  }

  /** Logarithm of the whole capital. */
  #gained(): number {
    let most = -Infinity;
    for (let j = 0; j < bets.length; j++) most = Math.max(most, this.#capital[j]!);
    if (most < this.#needed) return most; // The mean is at most the largest value.
    let sum = 0;
    for (let j = 0; j < bets.length; j++) sum += Math.exp(this.#capital[j]! - most);
    return most + Math.log(sum / bets.length);
  }

  toJSON(): number[] {
    return [this.#refuted, ...this.#capital, ...this.#seen];
  }

  /** Restores the state from `toJSON`. Errors call it `name`. */
  restore(saved: unknown, name = "the saved bound"): void {
    const list = checkList(saved, name, 1 + bets.length + bins + 1);
    const at = (i: number) => `${name}[${i}]`;
    this.#refuted = checkCount(list[0], at(0), 0, grid);
    const capital = list.slice(1, 1 + bets.length).map((value, j) => checkNumber(value, at(1 + j)));
    list.slice(1 + bets.length).forEach((times, i) => {
      this.#seen[i] = checkCount(times, at(1 + bets.length + i), 0, Number.MAX_SAFE_INTEGER);
    });
    this.#checkCapital(capital, name);
    this.#capital.set(capital);
  }

  /**
   * Checks that a saved state follows from its values. Each bet's capital must be right up to rounding, the next m of the grid
   * must not be refuted yet, and it must be possible that the last m was. (It was refuted at some earlier time, but the order of
   * the values is not saved. No order gives a bet more than the values that it gained from.)
   */
  #checkCapital(capital: readonly number[], name: string): void {
    const slack = 1e-9 * (1 + this.count);
    const last = this.#refuted;
    this.#capital.fill(0);
    this.#seen.forEach((times, bin) => {
      if (times > 0) this.#bet(bin, times);
    });
    const same = capital.every((value, j) => Math.abs(value - this.#capital[j]!) <= slack);
    const more = this.#gained() >= this.#needed + slack;
    this.#capital.fill(0);
    if (last > 0) {
      this.#refuted = last - 1;
      this.#seen.forEach((times, bin) => {
        if (times > 0 && (bin / bins) * (grid / last) > 1) this.#bet(bin, times);
      });
      this.#refuted = last;
    }
    const possible = last === 0 || this.#gained() >= this.#needed - slack;
    if (same && !more && possible) return;
    throw new ArgumentError(
      `${name} does not follow from the values that it counts: it was changed, or is of another delta.`,
    );
  }

  /** How many values were added. */
  get count(): number {
    return this.#seen.reduce((a, b) => a + b, 0);
  }
}
