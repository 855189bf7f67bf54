import { BackwardBounds } from "./bounds.ts";
import type { Counts } from "./counts.ts";
import type { Problem } from "./problem.ts";

/**
 * The bounds of BPI-UCBVI (Ménard et al. 2021, section 4), as StepMix uses them (Li et al. 2023, section 4):
 *
 *   beta(n)  = log(3SAH/delta) + S log(8e(n+1))      beta*(n) = log(3SAH/delta) + log(8e(n+1))
 *   bonus    = 3 sqrt(Var_p^(U') beta* / n) + 14 H^2 beta / n + (1/H) p^(U' - L')
 *   U(s,a)   = min(H - h, r + bonus + p^ U')         L(s,a) = max(0, r - bonus + p^ L')
 *
 * where U' and L' are the bounds of the same policy one step later. `bonusScale` multiplies the first two terms.
 */
export class PaperBounds extends BackwardBounds {
  /** 3 bonusScale sqrt(beta*(n) / n) and bonusScale 14 H^2 beta(n) / n, by row: no logarithm is taken in a backup. */
  readonly #root: Float64Array;
  readonly #linear: Float64Array;

  constructor(problem: Problem, counts: Counts) {
    super(problem, counts);
    const rows = counts.visits.length;
    this.#root = new Float64Array(rows);
    this.#linear = new Float64Array(rows);
    for (let row = 0; row < rows; row++) this.refresh(row);
  }

  override refresh(row: number): void {
    const n = this.counts.visits[row]!;
    if (n === 0) return;
    const { horizon, states, actions, bonusScale, rewards } = this.problem;
    // Estimated rewards take half of delta: bounds on transitions and on rewards must hold together.
    const delta = rewards ? this.problem.delta : this.problem.delta / 2;
    const share = Math.log((3 * states * actions * horizon) / delta);
    const growth = Math.log(8 * Math.E * (n + 1));
    this.#root[row] = 3 * bonusScale * Math.sqrt((share + growth) / n);
    this.#linear[row] = (bonusScale * 14 * horizon ** 2 * (share + states * growth)) / n;
    if (!rewards) this.refreshReward(row, delta);
  }

  protected override backUp(h: number, row: number, upper: Float64Array, lower: Float64Array, from: number): void {
    const { horizon } = this.problem;
    const { visits, start, size, next, times } = this.counts;
    const n = visits[row]!;
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
    this.result[0] = Math.min(horizon - h, Math.max(0, this.rewardHigh[row]! + bonus + meanUpper));
    this.result[1] = Math.min(horizon - h, Math.max(0, this.rewardLow[row]! - bonus + meanLower));
  }
}
