/** Confidence bounds on the values of StepMix's candidate policies. */

import { rewardBonus } from "./concentration.ts";
import type { Counts } from "./counts.ts";
import type { Problem } from "./problem.ts";

/**
 * What an algorithm asks. Candidate h0 plays the baseline for the first h0 steps and the optimistic policy from there:
 * candidate 0 is pure optimism, candidate H the baseline.
 */
export interface Bounds {
  /** Backward induction over the counts as they are now: the optimistic policy, its upper and its lower bound. */
  plan(): void;
  /** The optimistic policy of the last `plan`, [step][state]; ties go to the lowest action. Overwritten by the next. */
  readonly optimistic: Int32Array;
  /** Upper bound on the optimal value. */
  readonly upper: number;
  /** Lower bound on the value of candidate h0. */
  lower(h0: number): number;
  /** Upper bound on the value of candidate h0. */
  upperOf(h0: number): number;
  /** To be called when the counts of a row have changed. */
  refresh(row: number): void;
  /** How many rows (h, s, a) were backed up so far: what a decision costs. */
  readonly backups: number;
}

/**
 * The bounds of BPI-UCBVI (Ménard et al. 2021, section 4), as StepMix uses them (Li et al. 2023, section 4):
 *
 *   beta(n)  = log(3SAH/delta) + S log(8e(n+1))      beta*(n) = log(3SAH/delta) + log(8e(n+1))
 *   bonus    = 3 sqrt(Var_p^(U') beta* / n) + 14 H^2 beta / n + (1/H) p^(U' - L')
 *   U(s,a)   = min(H - h, r + bonus + p^ U')         L(s,a) = max(0, r - bonus + p^ L')
 *
 * where U' and L' are the bounds of the same policy one step later. `bonusScale` multiplies the first two terms.
 *
 * Cost: `plan` backs every observed row up once. The candidates share its values from h0 on, so candidate h0 costs only
 * the baseline's rows of the steps before h0, and a decision that stops at h0 costs one plan and h0 (h0 + 1) / 2 steps of
 * the baseline. What depends on counts alone is kept by row, so no logarithm is taken here; nothing is allocated.
 */
export class PaperBounds implements Bounds {
  readonly optimistic: Int32Array;
  upper: number;
  backups = 0;
  readonly #problem: Problem;
  readonly #counts: Counts;
  /** 3 bonusScale sqrt(beta*(n) / n) and bonusScale 14 H^2 beta(n) / n, by row. */
  readonly #root: Float64Array;
  readonly #linear: Float64Array;
  readonly #rewardLow: Float64Array;
  readonly #rewardHigh: Float64Array;
  /** Bounds of the optimistic policy, [step][state] with one step more than the horizon. */
  readonly #upper: Float64Array;
  readonly #lower: Float64Array;
  /** Bounds of a candidate at two steps in turn. */
  readonly #head: readonly [Float64Array, Float64Array, Float64Array, Float64Array];
  /** Results of `#backUp`: an object would be an allocation in the inner loop. */
  readonly #result = new Float64Array(2);

  constructor(problem: Problem, counts: Counts) {
    const { horizon, states } = problem;
    this.#problem = problem;
    this.#counts = counts;
    const rows = counts.visits.length;
    this.#root = new Float64Array(rows);
    this.#linear = new Float64Array(rows);
    this.#rewardLow = problem.rewards ?? new Float64Array(rows);
    this.#rewardHigh = problem.rewards ?? new Float64Array(rows).fill(1);
    this.#upper = new Float64Array((horizon + 1) * states);
    this.#lower = new Float64Array((horizon + 1) * states);
    const scratch = () => new Float64Array(states);
    this.#head = [scratch(), scratch(), scratch(), scratch()];
    this.optimistic = new Int32Array(horizon * states);
    this.upper = horizon;
    for (let row = 0; row < rows; row++) this.refresh(row);
  }

  refresh(row: number): void {
    const n = this.#counts.visits[row]!;
    if (n === 0) return;
    const { horizon, states, actions, bonusScale, rewards } = this.#problem;
    // Estimated rewards take half of delta: bounds on transitions and on rewards must hold together.
    const delta = rewards ? this.#problem.delta : this.#problem.delta / 2;
    const share = Math.log((3 * states * actions * horizon) / delta);
    const growth = Math.log(8 * Math.E * (n + 1));
    this.#root[row] = 3 * bonusScale * Math.sqrt((share + growth) / n);
    this.#linear[row] = (bonusScale * 14 * horizon ** 2 * (share + states * growth)) / n;
    if (rewards) return;
    const mean = this.#counts.rewardSum[row]! / n;
    const bonus = bonusScale * rewardBonus(this.#counts, row, delta);
    this.#rewardLow[row] = Math.max(0, mean - bonus);
    this.#rewardHigh[row] = Math.min(1, mean + bonus);
  }

  plan(): void {
    const { horizon, states, actions, initial } = this.#problem;
    const { stateVisits } = this.#counts;
    const [upper, lower, result] = [this.#upper, this.#lower, this.#result];
    for (let h = horizon - 1; h >= 0; h--) {
      for (let s = 0; s < states; s++) {
        const at = h * states + s;
        let best = -1;
        let lowerOfBest = 0;
        if (stateVisits[at] === 0) {
          best = horizon - h; // All actions alike: the lowest.
          this.optimistic[at] = 0;
        } else {
          for (let a = 0; a < actions; a++) {
            this.#backUp(h, at * actions + a, upper, lower, (h + 1) * states);
            if (result[0]! > best) {
              best = result[0]!;
              lowerOfBest = result[1]!;
              this.optimistic[at] = a;
            }
          }
        }
        upper[at] = best;
        lower[at] = lowerOfBest;
      }
    }
    this.upper = dot(initial, upper);
  }

  lower(h0: number): number {
    return dot(this.#problem.initial, this.#candidate(h0)[1]);
  }

  upperOf(h0: number): number {
    return dot(this.#problem.initial, this.#candidate(h0)[0]);
  }

  /** Upper and lower bounds of a candidate at the first step, for the states in which an episode can start. */
  #candidate(h0: number): readonly [Float64Array, Float64Array] {
    const { horizon, states, actions, baseline, initial } = this.#problem;
    const { stateVisits } = this.#counts;
    const result = this.#result;
    let [upper, lower, start] = [this.#upper, this.#lower, h0 * states];
    for (let h = h0 - 1; h >= 0; h--) {
      const [upperHere, lowerHere] = h % 2 === 0 ? [this.#head[0], this.#head[1]] : [this.#head[2], this.#head[3]];
      for (let s = 0; s < states; s++) {
        const at = h * states + s;
        let [u, l] = [0, 0];
        if (stateVisits[at] === 0) {
          u = horizon - h;
        } else if (h > 0 || initial[s]! > 0) {
          for (let a = 0; a < actions; a++) {
            const p = baseline[at * actions + a]!;
            if (p === 0) continue;
            this.#backUp(h, at * actions + a, upper, lower, start);
            u += p * result[0]!;
            l += p * result[1]!;
          }
        }
        upperHere[s] = u;
        lowerHere[s] = l;
      }
      [upper, lower, start] = [upperHere, lowerHere, 0];
    }
    return [upper.subarray(start, start + states), lower.subarray(start, start + states)];
  }

  /** U_h(s,a) and L_h(s,a) from the bounds one step later, which begin at `from`. */
  #backUp(h: number, row: number, upper: Float64Array, lower: Float64Array, from: number): void {
    const { horizon } = this.#problem;
    const { visits, start, size, next, times } = this.#counts;
    const result = this.#result;
    this.backups++;
    const n = visits[row]!;
    if (n === 0) {
      result[0] = horizon - h;
      result[1] = 0;
      return;
    }
    const first = start[row]!;
    const end = first + size[row]!;
    // Sums of U' - shift: with a shift from among the values the variance of equal values is zero, not a rounding error.
    const shift = upper[from + next[first]!]!;
    let [sum, squares, lowerSum] = [0, 0, 0];
    for (let i = first; i < end; i++) {
      const at = from + next[i]!;
      const weight = times[i]!;
      const difference = upper[at]! - shift;
      const weighted = weight * difference;
      sum += weighted;
      squares += weighted * difference;
      lowerSum += weight * lower[at]!;
    }
    const offset = sum / n;
    const meanLower = lowerSum / n;
    const meanUpper = shift + offset;
    const variance = Math.max(0, squares / n - offset * offset);
    const bonus = this.#root[row]! * Math.sqrt(variance) + this.#linear[row]! + (meanUpper - meanLower) / horizon;
    result[0] = Math.min(horizon - h, Math.max(0, this.#rewardHigh[row]! + bonus + meanUpper));
    result[1] = Math.min(horizon - h, Math.max(0, this.#rewardLow[row]! - bonus + meanLower));
  }
}

/** sum of weights[i] * values[i] over the weights. */
function dot(weights: Float64Array, values: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < weights.length; i++) sum += weights[i]! * values[i]!;
  return sum;
}
