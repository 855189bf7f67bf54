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
