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
// In the loops below plain declarations stand in for destructuring, which goes through iterators and is several times slower.
export class PaperBounds extends BackwardBounds {
  /** 3 bonusScale sqrt(beta*(n) / n) and bonusScale 14 H^2 beta(n) / n, by row: no logarithm is taken in a backup. */
  readonly #root: Float64Array;
  readonly #linear: Float64Array;
  /** Bounds of four candidates at two steps in turn, [state][candidate]: upper, lower, upper, lower. */
  readonly #lanes: readonly Float64Array[];
  /** Which four candidates' lower bounds are known since the last plan, and what they are. */
  #block = -1;
  readonly #lowers: Float64Array;

  constructor(problem: Problem, counts: Counts) {
    super(problem, counts);
    const rows = counts.visits.length;
    this.#root = new Float64Array(rows);
    this.#linear = new Float64Array(rows);
    this.#lanes = Array.from({ length: 4 }, () => new Float64Array(4 * problem.states));
    this.#lowers = new Float64Array(4);
    for (let row = 0; row < rows; row++) this.refresh(row);
  }

  override plan(): void {
    super.plan();
    this.#block = -1;
  }

  /** Four candidates at a time, so that a row's counts are read once for the four. */
  override lower(h0: number): number {
    const alone = this.problem.horizon % 4;
    if (h0 <= alone) return super.lower(h0);
    const block = Math.floor((h0 - alone - 1) / 4);
    if (block !== this.#block) this.#lowerOfFour(alone + 1 + 4 * block);
    this.#block = block;
    return this.#lowers[(h0 - alone - 1) % 4]!;
  }

  /** Lower bounds of candidates first .. first + 3. */
  #lowerOfFour(first: number): void {
    const { states, actions, baseline, initial, horizon } = this.problem;
    const { stateVisits } = this.counts;
    let [upper, lower, upperHere, lowerHere] = this.#lanes as [Float64Array, Float64Array, Float64Array, Float64Array];
    this.#copyPlan(first + 3, first + 3, first, upper, lower);
    for (let h = first + 2; h >= 0; h--) {
      for (let s = 0; s < states; s++) {
        const at = h * states + s;
        const seen = stateVisits[at]! > 0;
        upperHere.fill(seen ? 0 : horizon - h, 4 * s, 4 * s + 4);
        lowerHere.fill(0, 4 * s, 4 * s + 4);
        if (!seen || (h === 0 && initial[s] === 0)) continue;
        for (let a = 0; a < actions; a++) {
          const p = baseline[at * actions + a]!;
          if (p > 0) this.#addFour(h, at * actions + a, p, 4 * s, upper, lower, upperHere, lowerHere);
        }
      }
      // Candidates that have not come to their baseline steps yet are still what was planned.
      this.#copyPlan(h, h, first, upperHere, lowerHere);
      [upper, lower, upperHere, lowerHere] = [upperHere, lowerHere, upper, lower];
    }
    this.#lowers.fill(0);
    for (let s = 0; s < states; s++) {
      for (let c = 0; c < 4; c++) this.#lowers[c]! += initial[s]! * lower[4 * s + c]!;
    }
  }

  /** The plan's bounds at a step, for those of the four candidates that switch at `until` or before. */
  #copyPlan(h: number, until: number, first: number, upper: Float64Array, lower: Float64Array): void {
    const { states } = this.problem;
    for (let c = 0; c < 4 && first + c <= until; c++) {
      for (let s = 0; s < states; s++) {
        upper[4 * s + c] = this.planUpper[h * states + s]!;
        lower[4 * s + c] = this.planLower[h * states + s]!;
      }
    }
  }

  /** `backUp` for four candidates, whose results are added to those of a state with weight p. */
  #addFour(
    h: number,
    row: number,
    p: number,
    to: number,
    upper: Float64Array,
    lower: Float64Array,
    upperHere: Float64Array,
    lowerHere: Float64Array,
  ): void {
    this.backups += 4;
    const { visits, start, size, next, times } = this.counts;
    const left = this.problem.horizon - h;
    const n = visits[row]!;
    if (n === 0) {
      for (let c = to; c < to + 4; c++) upperHere[c]! += p * left;
      return;
    }
    const first = start[row]!;
    const end = first + size[row]!;
    const origin = 4 * next[first]!;
    const a = upper[origin]!;
    const b = upper[origin + 1]!;
    const c = upper[origin + 2]!;
    const d = upper[origin + 3]!;
    let sumA = 0;
    let sumB = 0;
    let sumC = 0;
    let sumD = 0;
    let squareA = 0;
    let squareB = 0;
    let squareC = 0;
    let squareD = 0;
    let lowA = 0;
    let lowB = 0;
    let lowC = 0;
    let lowD = 0;
    for (let i = first; i < end; i++) {
      const at = 4 * next[i]!;
      const weight = times[i]!;
      const x = upper[at]! - a;
      const y = upper[at + 1]! - b;
      const z = upper[at + 2]! - c;
      const w = upper[at + 3]! - d;
      const wx = weight * x;
      const wy = weight * y;
      const wz = weight * z;
      const ww = weight * w;
      sumA += wx;
      sumB += wy;
      sumC += wz;
      sumD += ww;
      squareA += wx * x;
      squareB += wy * y;
      squareC += wz * z;
      squareD += ww * w;
      lowA += weight * lower[at]!;
      lowB += weight * lower[at + 1]!;
      lowC += weight * lower[at + 2]!;
      lowD += weight * lower[at + 3]!;
    }
    const root = this.#root[row]!;
    const linear = this.#linear[row]!;
    const high = this.rewardHigh[row]!;
    const low = this.rewardLow[row]!;
    const { horizon } = this.problem;
    for (let k = 0; k < 4; k++) {
      const sum = k === 0 ? sumA : k === 1 ? sumB : k === 2 ? sumC : sumD;
      const squares = k === 0 ? squareA : k === 1 ? squareB : k === 2 ? squareC : squareD;
      const meanLower = (k === 0 ? lowA : k === 1 ? lowB : k === 2 ? lowC : lowD) / n;
      const offset = sum / n;
      const meanUpper = (k === 0 ? a : k === 1 ? b : k === 2 ? c : d) + offset;
      const variance = Math.max(0, squares / n - offset * offset);
      const bonus = root * Math.sqrt(variance) + linear + (meanUpper - meanLower) / horizon;
      upperHere[to + k]! += p * Math.min(left, Math.max(0, high + bonus + meanUpper));
      lowerHere[to + k]! += p * Math.min(left, Math.max(0, low - bonus + meanLower));
    }
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
    let sum = 0;
    let squares = 0;
    let lowerSum = 0;
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
