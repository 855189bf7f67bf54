import type { Episode } from "../mdp/episode.ts";
import type { Problem } from "../mdp/problem.ts";
import { type Bounds, conceded, dot, estimatedReward, vouched } from "./bounds.ts";
import type { Counts } from "./counts.ts";
import { createKernel, type PaperKernel } from "./paper-kernel.ts";

/**
 * The bounds of BPI-UCBVI (Ménard et al. 2021, arXiv 2007.13442), as StepMix uses them (Li et al. 2023, arXiv 2306.06265):
 *
 *   beta(n)  = log(3SAH/delta) + S log(8e(n+1))      beta*(n) = log(3SAH/delta) + log(8e(n+1))
 *   bonus    = 3 sqrt(Var_p^(U') beta* / n) + 14 H^2 beta / n + (1/H) p^(U' - L')
 *   U(s,a)   = min(H - h, r + bonus + p^ U')         L(s,a) = max(0, r - bonus + p^ L')
 *
 * where U' and L' are the bounds of the same policy one step later. `bonusScale` multiplies the first two terms.
 *
 * Cost: `plan` backs every observed row up once. The candidates share its values from h0 on, so candidate h0 costs only
 * the baseline's rows of the steps before h0, and a decision that stops at h0 costs one plan and h0 (h0 + 1) / 2 steps of
 * the baseline. What depends on counts alone is cached by row, and nothing is allocated per state or row. Plans and lower
 * bounds are computed by paper-kernel.ts, with the same bits as here. This is the plain form, used where WebAssembly is missing.
 */
export class PaperBounds implements Bounds {
  readonly optimistic: Int32Array;
  upper: number;
  backups = 0;
  readonly #problem: Problem;
  readonly #counts: Counts;
  readonly #rewardLow: Float64Array;
  readonly #rewardHigh: Float64Array;
  /** 3 bonusScale sqrt(beta*(n) / n) and bonusScale 14 H^2 beta(n) / n, by row, so that backups need no logarithm. */
  readonly #root: Float64Array;
  readonly #linear: Float64Array;
  /** Results of a backup, upper and lower. Returning an object would allocate in the inner loop. */
  readonly #result = new Float64Array(2);
  /** Bounds of the optimistic policy, [step][state] with one step more than the horizon. */
  readonly #planUpper: Float64Array;
  readonly #planLower: Float64Array;
  /** Bounds of a candidate at two steps, used alternately. */
  readonly #head: readonly [Float64Array, Float64Array, Float64Array, Float64Array];
  readonly #kernel: PaperKernel | undefined;
  /** Which four candidates have known lower bounds since the last plan, and those bounds. */
  #block = -1;
  readonly #lowers = new Float64Array(4);

  constructor(problem: Problem, counts: Counts, { kernel = true }: { kernel?: boolean } = {}) {
    const { horizon, states } = problem;
    this.#problem = problem;
    this.#counts = counts;
    const rows = counts.visits.length;
    this.#rewardLow = problem.rewards ?? new Float64Array(rows);
    this.#rewardHigh = problem.rewards ?? new Float64Array(rows).fill(1);
    this.#root = new Float64Array(rows);
    this.#linear = new Float64Array(rows);
    this.#planUpper = new Float64Array((horizon + 1) * states);
    this.#planLower = new Float64Array((horizon + 1) * states);
    const scratch = () => new Float64Array(states);
    this.#head = [scratch(), scratch(), scratch(), scratch()];
    this.optimistic = new Int32Array(horizon * states);
    this.upper = horizon;
    this.#kernel = kernel ? createKernel(problem, counts) : undefined;
    for (let row = 0; row < rows; row++) this.refresh(row);
  }

  refresh(row: number): void {
    const n = this.#counts.visits[row]!;
    if (n === 0) return;
    const { horizon, states, actions, delta: whole, bonusScale, rewards } = this.#problem;
    // Estimating rewards uses up half of delta.
    const delta = rewards ? whole : whole / 2;
    const share = Math.log((3 * states * actions * horizon) / delta);
    const growth = Math.log(8 * Math.E * (n + 1));
    const root = 3 * bonusScale * Math.sqrt((share + growth) / n);
    const linear = (bonusScale * 14 * horizon * horizon * (share + states * growth)) / n;
    // Infinity times a variance of zero would be NaN. A bonus that large means that nothing is known, and so does this one.
    const fits = Number.isFinite(root) && Number.isFinite(linear);
    this.#root[row] = fits ? root : 0;
    this.#linear[row] = fits ? linear : Number.MAX_VALUE;
    if (!rewards) {
      const [low, high] = estimatedReward(this.#counts, row, delta, bonusScale);
      this.#rewardLow[row] = low;
      this.#rewardHigh[row] = high;
    }
    const [high, low] = [this.#rewardHigh[row]!, this.#rewardLow[row]!];
    this.#kernel?.refresh(row, this.#root[row]!, this.#linear[row]!, high, low);
  }

  endEpisode(_episode: Episode): void {}

  toJSON(): unknown {
    return undefined;
  }

  restore(_saved: unknown): void {}

  plan(): void {
    if (this.#kernel) this.backups += this.#kernel.plan(this.optimistic, this.#planUpper, this.#planLower);
    else this.#greedy(this.optimistic, 0);
    this.#block = -1;
    this.upper = conceded(dot(this.#problem.initial, this.#planUpper, 0), this.#problem.horizon);
  }

  pessimistic(): { policy: Int32Array; lower: number } {
    const policy = new Int32Array(this.optimistic.length);
    this.#greedy(policy, 1);
    return { policy, lower: vouched(dot(this.#problem.initial, this.#planLower, 0)) };
  }

  /** Backward induction, greedy in the upper (0) or the lower (1) bound. */
  #greedy(policy: Int32Array, by: 0 | 1): void {
    const { horizon, states, actions } = this.#problem;
    const { stateVisits, visits } = this.#counts;
    const [planUpper, planLower, result] = [this.#planUpper, this.#planLower, this.#result];
    for (let h = horizon - 1; h >= 0; h--) {
      for (let s = 0; s < states; s++) {
        const at = h * states + s;
        let best = 0;
        let upper = horizon - h;
        let lower = 0;
        if (stateVisits[at]! > 0) {
          this.#row(h, at * actions, planUpper, planLower, (h + 1) * states);
          upper = result[0]!;
          lower = result[1]!;
          let value = result[by]!;
          for (let a = 1; a < actions; a++) {
            const row = at * actions + a;
            this.#row(h, row, planUpper, planLower, (h + 1) * states);
            const better = result[by]! > value;
            const tie = by === 1 && result[by]! === value && visits[row]! > visits[at * actions + best]!;
            if (!better && !tie) continue;
            best = a;
            value = result[by]!;
            upper = result[0]!;
            lower = result[1]!;
          }
        }
        policy[at] = best;
        planUpper[at] = upper;
        planLower[at] = lower;
      }
    }
  }

  /** The kernel works on four candidates at a time, so that a row's counts are read once for the four. */
  lower(h0: number): number {
    const alone = this.#problem.horizon % 4;
    if (!this.#kernel || h0 <= alone) return vouched(dot(this.#problem.initial, ...this.#candidate(h0, 1)));
    const block = Math.floor((h0 - alone - 1) / 4);
    if (block !== this.#block) this.backups += this.#kernel.four(alone + 1 + 4 * block, this.#lowers);
    this.#block = block;
    return vouched(this.#lowers[(h0 - alone - 1) % 4]!);
  }

  upperOf(h0: number): number {
    return conceded(dot(this.#problem.initial, ...this.#candidate(h0, 0)), this.#problem.horizon);
  }

  /** Where the bounds of a candidate at the first step are. Only those of states in which an episode can start are set. */
  #candidate(h0: number, which: 0 | 1): readonly [values: Float64Array, start: number] {
    const { horizon, states, actions, baseline, initial } = this.#problem;
    const { stateVisits } = this.#counts;
    const result = this.#result;
    let [upper, lower, start] = [this.#planUpper, this.#planLower, h0 * states];
    for (let h = h0 - 1; h >= 0; h--) {
      const [upperHere, lowerHere] = h % 2 === 0 ? [this.#head[0], this.#head[1]] : [this.#head[2], this.#head[3]];
      for (let s = 0; s < states; s++) {
        const at = h * states + s;
        let u = 0;
        let l = 0;
        if (stateVisits[at] === 0) {
          u = horizon - h;
        } else if (h > 0 || initial[s]! > 0) {
          for (let a = 0; a < actions; a++) {
            const p = baseline[at * actions + a]!;
            if (p === 0) continue;
            this.#row(h, at * actions + a, upper, lower, start);
            u += p * result[0]!;
            l += p * result[1]!;
          }
        }
        upperHere[s] = u;
        lowerHere[s] = l;
      }
      [upper, lower, start] = [upperHere, lowerHere, 0];
    }
    return [which === 0 ? upper : lower, start];
  }

  #row(h: number, row: number, upper: Float64Array, lower: Float64Array, from: number): void {
    this.backups++;
    if (this.#counts.visits[row]! > 0) this.#backUp(h, row, upper, lower, from);
    else {
      this.#result[0] = this.#problem.horizon - h;
      this.#result[1] = 0;
    }
  }

  /**
   * U_h(s,a) and L_h(s,a) of a row that was observed, from the bounds one step later, which begin at `from`. It uses
   * plain declarations because destructuring goes through iterators and is several times slower.
   */
  #backUp(h: number, row: number, upper: Float64Array, lower: Float64Array, from: number): void {
    const { horizon } = this.#problem;
    const { visits, start, size, next, times } = this.#counts;
    const inverse = 1 / visits[row]!;
    const first = start[row]!;
    const end = first + size[row]!;
    // Means of U' - shift. The shift is one of the values, so the variance of equal values is exactly zero, not a
    // rounding error.
    const shift = upper[from + next[first]!]!;
    let offset = 0;
    let squares = 0;
    let meanLower = 0;
    for (let i = first; i < end; i++) {
      const at = from + next[i]!;
      const frequency = times[i]! * inverse;
      const difference = upper[at]! - shift;
      const weighted = frequency * difference;
      offset += weighted;
      squares += weighted * difference;
      meanLower += frequency * lower[at]!;
    }
    const meanUpper = shift + offset;
    const variance = Math.max(0, squares - offset * offset);
    const bonus = this.#root[row]! * Math.sqrt(variance) + this.#linear[row]! + (meanUpper - meanLower) * (1 / horizon);
    this.#result[0] = Math.min(horizon - h, Math.max(0, this.#rewardHigh[row]! + bonus + meanUpper));
    this.#result[1] = Math.min(horizon - h, Math.max(0, this.#rewardLow[row]! - bonus + meanLower));
  }
}
