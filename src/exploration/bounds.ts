/** Confidence bounds on the values of StepMix's candidate policies. */

import { rewardBonus } from "./concentration.ts";
import type { Counts } from "./counts.ts";
import type { Episode } from "./learner.ts";
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
  /** To be called when an episode has been merged into the counts. */
  endEpisode(episode: Episode): void;
  /** What the bounds know beside the counts, for saving. */
  toJSON(): unknown;
  restore(saved: unknown): void;
  /**
   * The policy that is greedy in its own lower bound, with that bound: pessimistic value iteration (VI-LCB). Ties go to the
   * action seen most often.
   */
  pessimistic(): { policy: Int32Array; lower: number };
  /** How many rows (h, s, a) were backed up so far: what a decision costs. */
  readonly backups: number;
}

/**
 * Backward induction over optimistic and pessimistic backups. Subclasses say what one backup is.
 *
 * Cost: `plan` backs every observed row up once. The candidates share its values from h0 on, so candidate h0 costs only
 * the baseline's rows of the steps before h0, and a decision that stops at h0 costs one plan and h0 (h0 + 1) / 2 steps of
 * the baseline. What depends on counts alone is kept by row; nothing is allocated by state or row.
 */
export abstract class BackwardBounds implements Bounds {
  readonly optimistic: Int32Array;
  upper: number;
  backups = 0;
  protected readonly problem: Problem;
  protected readonly counts: Counts;
  protected readonly rewardLow: Float64Array;
  protected readonly rewardHigh: Float64Array;
  /** Results of `backUp`, upper and lower: an object would be an allocation in the inner loop. */
  protected readonly result: Float64Array = new Float64Array(2);
  /** Bounds of the optimistic policy, [step][state] with one step more than the horizon. */
  protected readonly planUpper: Float64Array;
  protected readonly planLower: Float64Array;
  /** The highest upper and the lowest lower bound of any state at the step after the one that is backed up. */
  protected highest = 0;
  protected lowest = 0;
  /** Bounds of a candidate at two steps in turn. */
  readonly #head: readonly [Float64Array, Float64Array, Float64Array, Float64Array];

  constructor(problem: Problem, counts: Counts) {
    const { horizon, states } = problem;
    this.problem = problem;
    this.counts = counts;
    const rows = counts.visits.length;
    this.rewardLow = problem.rewards ?? new Float64Array(rows);
    this.rewardHigh = problem.rewards ?? new Float64Array(rows).fill(1);
    this.planUpper = new Float64Array((horizon + 1) * states);
    this.planLower = new Float64Array((horizon + 1) * states);
    const scratch = () => new Float64Array(states);
    this.#head = [scratch(), scratch(), scratch(), scratch()];
    this.optimistic = new Int32Array(horizon * states);
    this.upper = horizon;
  }

  /** U_h(s,a) and L_h(s,a) of a row that was observed, from the bounds one step later, which begin at `from`. */
  protected abstract backUp(h: number, row: number, upper: Float64Array, lower: Float64Array, from: number): void;

  abstract refresh(row: number): void;

  endEpisode(_episode: Episode): void {}

  toJSON(): unknown {
    return undefined;
  }

  restore(_saved: unknown): void {}

  /** Estimated rewards: their mean, and `bonus` around it. */
  protected refreshReward(row: number, delta: number): void {
    const [low, high] = estimatedReward(this.counts, row, delta, this.problem.bonusScale);
    this.rewardLow[row] = low;
    this.rewardHigh[row] = high;
  }

  plan(): void {
    this.#greedy(this.optimistic, 0);
    this.upper = dot(this.problem.initial, this.planUpper, 0);
  }

  pessimistic(): { policy: Int32Array; lower: number } {
    const policy = new Int32Array(this.optimistic.length);
    this.#greedy(policy, 1);
    return { policy, lower: dot(this.problem.initial, this.planLower, 0) };
  }

  /** Backward induction, greedy in the upper (0) or the lower (1) bound. */
  #greedy(policy: Int32Array, by: 0 | 1): void {
    const { horizon, states, actions } = this.problem;
    const { stateVisits, visits } = this.counts;
    const { planUpper, planLower, result } = this;
    for (let h = horizon - 1; h >= 0; h--) {
      this.#look(planUpper, planLower, (h + 1) * states);
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

  lower(h0: number): number {
    return dot(this.problem.initial, ...this.#candidate(h0, 1));
  }

  upperOf(h0: number): number {
    return dot(this.problem.initial, ...this.#candidate(h0, 0));
  }

  /** Where the bounds of a candidate at the first step are; only of states in which an episode can start. */
  #candidate(h0: number, which: 0 | 1): readonly [values: Float64Array, start: number] {
    const { horizon, states, actions, baseline, initial } = this.problem;
    const { stateVisits } = this.counts;
    const result = this.result;
    let [upper, lower, start] = [this.planUpper, this.planLower, h0 * states];
    for (let h = h0 - 1; h >= 0; h--) {
      const [upperHere, lowerHere] = h % 2 === 0 ? [this.#head[0], this.#head[1]] : [this.#head[2], this.#head[3]];
      this.#look(upper, lower, start);
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
    if (this.counts.visits[row]! > 0) this.backUp(h, row, upper, lower, from);
    else {
      this.result[0] = this.problem.horizon - h;
      this.result[1] = 0;
    }
  }

  #look(upper: Float64Array, lower: Float64Array, from: number): void {
    let [highest, lowest] = [upper[from]!, lower[from]!];
    for (let at = from + 1; at < from + this.problem.states; at++) {
      if (upper[at]! > highest) highest = upper[at]!;
      if (lower[at]! < lowest) lowest = lower[at]!;
    }
    this.highest = highest;
    this.lowest = lowest;
  }
}

/** Bounds on a mean reward that has to be estimated. */
export function estimatedReward(counts: Counts, row: number, delta: number, scale: number): [low: number, high: number] {
  const mean = counts.rewardSum[row]! / counts.visits[row]!;
  const bonus = scale * rewardBonus(counts, row, delta);
  return [Math.max(0, mean - bonus), Math.min(1, mean + bonus)];
}

/** sum over i of weights[i] * values[start + i] */
export function dot(weights: Float64Array, values: Float64Array, start: number): number {
  let sum = 0;
  for (let i = 0; i < weights.length; i++) sum += weights[i]! * values[start + i]!;
  return sum;
}
