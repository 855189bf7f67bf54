import { BackwardBounds } from "./bounds.ts";
import { klRadius, lowestMean, MeanBound } from "./concentration.ts";
import type { Counts } from "./counts.ts";
import type { Episode } from "./learner.ts";
import type { Problem } from "./problem.ts";

/**
 * Bounds that hold with the same confidence and are much tighter; docs/stepmix.md states and proves each one. delta (half
 * of it where rewards are estimated) is split among them, so that all hold at once:
 *
 * - 1/2: every row's transitions lie in a Kullback-Leibler ball around what was observed (Jonsson et al. 2020, proposition
 *   1), and U and L are the extremes of p V' over the ball. The last step needs no ball: nothing comes after it.
 * - 1/4: what the baseline earns in its first h0 steps, by a bound on the mean over the episodes that played it for so long
 *   (Waudby-Smith & Ramdas 2024, theorem 2).
 * - 1/4: in which state the baseline's first h0 steps end, a Kullback-Leibler ball around what those episodes saw.
 *
 * The last two bound a candidate without adding up the uncertainty of its baseline steps. The larger lower bound counts.
 */
export class TightBounds extends BackwardBounds {
  /** Radius of each row's ball. */
  readonly #radius: Float64Array;
  /** What the baseline earns in its first h0 steps, as a share of h0, by the episodes that played it so long; h0 = 1 .. H. */
  readonly #earned: readonly MeanBound[];
  /** In which state they were then, [h0][state]. */
  readonly #arrived: Float64Array;
  /** Values and weights of the observed successors of one row. */
  readonly #values: Float64Array;
  readonly #weights: Float64Array;

  constructor(problem: Problem, counts: Counts) {
    super(problem, counts);
    const { horizon, states } = problem;
    this.#radius = new Float64Array(counts.visits.length);
    this.#earned = Array.from({ length: horizon }, () => new MeanBound(this.#delta / 4 / horizon, problem.bonusScale));
    this.#arrived = new Float64Array((horizon + 1) * states);
    this.#values = new Float64Array(states);
    this.#weights = new Float64Array(states);
    for (let row = 0; row < counts.visits.length; row++) this.refresh(row);
  }

  get #delta(): number {
    return this.problem.rewards ? this.problem.delta : this.problem.delta / 2;
  }

  override refresh(row: number): void {
    const n = this.counts.visits[row]!;
    if (n === 0) return;
    const { horizon, states, actions, bonusScale, rewards } = this.problem;
    const rows = Math.max(1, (horizon - 1) * states * actions);
    this.#radius[row] = bonusScale * klRadius(n, states, this.#delta / 2 / rows);
    if (!rewards) this.refreshReward(row, this.#delta);
  }

  override endEpisode({ baselineSteps, steps }: Episode): void {
    const { states, actions, rewards } = this.problem;
    let earned = 0;
    for (let h = 0; h < baselineSteps; h++) {
      const [state, action, reward, next] = steps[h]!;
      earned += rewards ? rewards[(h * states + state) * actions + action]! : reward;
      this.#earned[h]!.add(earned / (h + 1));
      this.#arrived[(h + 1) * states + next]!++;
    }
  }

  protected override backUp(h: number, row: number, upper: Float64Array, lower: Float64Array, from: number): void {
    const { result } = this;
    const low = this.rewardLow[row]!;
    const high = this.rewardHigh[row]!;
    if (h === this.problem.horizon - 1) {
      result[0] = high;
      result[1] = low;
      return;
    }
    const { visits, start, size, next, times } = this.counts;
    const n = visits[row]!;
    const first = start[row]!;
    const count = size[row]!;
    const { highest, lowest } = this;
    for (let i = 0; i < count; i++) {
      this.#weights[i] = times[first + i]! / n;
      this.#values[i] = lower[from + next[first + i]!]! - lowest;
    }
    result[1] = low + lowest + lowestMean(this.#weights, this.#values, count, this.#radius[row]!);
    for (let i = 0; i < count; i++) this.#values[i] = highest - upper[from + next[first + i]!]!;
    result[0] = high + highest - lowestMean(this.#weights, this.#values, count, this.#radius[row]!);
  }

  override lower(h0: number): number {
    return Math.max(super.lower(h0), this.#fromEpisodes(h0));
  }

  /** The lower bound of a candidate by the episodes that began with the baseline as it does. */
  #fromEpisodes(h0: number): number {
    const { horizon, states, bonusScale } = this.problem;
    const episodes = this.#earned[h0 - 1];
    if (!episodes || episodes.count === 0) return 0;
    const n = episodes.count;
    const earned = h0 * episodes.lower;
    if (h0 === horizon) return earned;
    let [lowest, count] = [Infinity, 0];
    for (let s = 0; s < states; s++) lowest = Math.min(lowest, this.planLower[h0 * states + s]!);
    for (let s = 0; s < states; s++) {
      const times = this.#arrived[h0 * states + s]!;
      if (times === 0) continue;
      this.#weights[count] = times / n;
      this.#values[count++] = this.planLower[h0 * states + s]! - lowest;
    }
    const radius = bonusScale * klRadius(n, states, this.#delta / 4 / (horizon - 1));
    return earned + lowest + lowestMean(this.#weights, this.#values, count, radius);
  }

  override toJSON(): unknown {
    return { earned: this.#earned, arrived: [...this.#arrived] };
  }

  override restore(saved: unknown): void {
    const { earned, arrived } = saved as { earned: number[][]; arrived: number[] };
    earned.forEach((sums, i) => {
      this.#earned[i]!.restore(sums);
    });
    this.#arrived.set(arrived);
  }
}
