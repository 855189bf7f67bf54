import { ArgumentError } from "../../errors.ts";
import type { Episode } from "../mdp/episode.ts";
import type { Problem } from "../mdp/problem.ts";
import { checkList } from "../mdp/reading.ts";
import { dirichletRadius, MeanBound, scaledRadius } from "./concentration.ts";
import { type CountEntry, Counts } from "./counts.ts";
import { KlBalls, largest, smallest } from "./kl-balls.ts";

/** How much of delta each of the two events gets: what the first h0 steps earn, and the state in which they end. */
interface Shares {
  readonly earned: number;
  readonly arrival: number;
}

/**
 * Lower bounds from the episodes that began with h0 steps of the baseline, for each h0 (docs/stepmix.md, "earned" and
 * "arrival"). They hold for policies that begin the same way, and they do not add up the uncertainty of each baseline step.
 *
 * If rewards are known, they also use the premise that the baseline is safe: the best actions at the last step are at least as
 * good as the baseline's, so candidate H - 1 is safe too. The largest of the lower bounds counts.
 */
export class BaselineEpisodes {
  /**
   * The return that the best actions are certain to earn from a state on, [step][state] with one step more than the
   * horizon; zero if rewards are not known.
   */
  readonly certain: Float64Array;
  readonly #problem: Problem;
  readonly #arrivalShare: number;
  /** The baseline's mean reward in a state; zero if rewards are not known. */
  readonly #mean: Float64Array;
  /** The least and the most that the first h0 steps of the baseline can earn, plus what is certain after them. */
  readonly #least: Float64Array;
  readonly #most: Float64Array;
  /** What they actually earned, as a share of that range; h0 = 1 .. H. */
  readonly #earned: readonly MeanBound[];
  /** Whether the baseline may be assumed to be safe: false if its value, or the rewards alone, show that it is not. */
  readonly #premise: boolean;
  /** In which state they ended: row h0 - 1. */
  #arrived: Counts;
  readonly #balls: KlBalls;
  /** Scratch for the function of the state whose mean is bounded. */
  readonly #function: Float64Array;

  constructor(problem: Problem, shares: Shares) {
    const { horizon, states, rewards, bonusScale } = problem;
    this.#problem = problem;
    this.#arrivalShare = shares.arrival / Math.max(1, horizon - 1);
    this.certain = new Float64Array((horizon + 1) * states);
    this.#mean = new Float64Array(horizon * states);
    this.#least = new Float64Array(horizon + 1);
    this.#most = new Float64Array(horizon + 1);
    this.#earned = Array.from({ length: horizon }, () => new MeanBound(shares.earned / horizon, bonusScale));
    this.#arrived = new Counts({ horizon, states, actions: 1 });
    this.#balls = new KlBalls(states);
    this.#function = new Float64Array(states);
    if (rewards) this.#know(rewards);
    this.#setRanges();
    const { baselineValue, threshold } = problem;
    const refuted = (baselineValue ?? threshold) < threshold || this.#most[horizon]! < threshold - 1e-9;
    this.#premise = rewards !== undefined && !refuted;
  }

  /** Computes what known rewards imply without any data. */
  #know(rewards: Float64Array): void {
    const { horizon, states, actions, baseline } = this.#problem;
    for (let h = horizon - 1; h >= 0; h--) {
      const later = smallest(this.certain, (h + 1) * states, states);
      for (let s = 0; s < states; s++) {
        const at = h * states + s;
        let best = 0;
        for (let row = at * actions; row < (at + 1) * actions; row++) {
          this.#mean[at]! += baseline[row]! * rewards[row]!;
          best = Math.max(best, rewards[row]!);
        }
        this.certain[at] = best + later;
      }
    }
  }

  #setRanges(): void {
    const { horizon, states, initial, rewards } = this.#problem;
    let [low, high] = [0, 0];
    for (let h = 0; h < horizon; h++) {
      const means = this.#mean.subarray(h * states, (h + 1) * states).filter((_, s) => h > 0 || initial[s]! > 0);
      low += rewards ? Math.min(...means) : 0;
      high += rewards ? Math.max(...means) : 1;
      this.#least[h + 1] = low + smallest(this.certain, (h + 1) * states, states);
      this.#most[h + 1] = high + largest(this.certain, (h + 1) * states, states);
    }
  }

  add({ baselineSteps, steps }: Episode): void {
    const { states, rewards } = this.#problem;
    let earned = 0;
    for (let h = 0; h < baselineSteps; h++) {
      const [state, , reward, next] = steps[h]!;
      // If rewards are known, use the mean over the baseline's actions: it has the same expectation and varies less.
      earned += rewards ? this.#mean[h * states + state]! : reward;
      const [low, high] = [this.#least[h + 1]!, this.#most[h + 1]!];
      const value = earned + this.certain[(h + 1) * states + next]!;
      this.#earned[h]!.add(high > low ? (value - low) / (high - low) : 1);
      this.#arrived.add(h, 0, 0, next);
    }
  }

  /** Lower bound on the value of h0 steps of the baseline followed by a policy with the lower bounds `later`, [step][state]. */
  lower(h0: number, later: Float64Array): number {
    const { horizon, threshold } = this.#problem;
    if (h0 === 0) return 0;
    const [low, high] = [this.#least[h0]!, this.#most[h0]!];
    const earned = low + (high - low) * this.#earned[h0 - 1]!.lower;
    if (h0 === horizon) return earned;
    const beyond = earned + this.#onArrival(h0, (at) => later[at]! - this.certain[at]!);
    if (!this.#premise || h0 < horizon - 1) return beyond;
    // The threshold, plus how much better the best actions at the last step are than the baseline's.
    return Math.max(beyond, threshold + this.#onArrival(h0, (at) => this.certain[at]! - this.#mean[at]!));
  }

  /** Lower bound on the mean of a function of the state in which the first h0 steps end. */
  #onArrival(h0: number, of: (at: number) => number): number {
    const { states, bonusScale } = this.#problem;
    const { visits, start, size, times } = this.#arrived;
    const row = (h0 - 1) * states;
    const n = visits[row]!;
    const seen = times.subarray(start[row]!, start[row]! + size[row]!);
    const radius = n === 0 ? Infinity : scaledRadius(dirichletRadius(seen, n, states, this.#arrivalShare), bonusScale);
    for (let s = 0; s < states; s++) this.#function[s] = of(h0 * states + s);
    return this.#balls.mean(this.#arrived, row, this.#function, 0, smallest(this.#function, 0, states), radius, 1);
  }

  toJSON(): { earned: unknown; arrived: unknown } {
    return { earned: this.#earned, arrived: this.#arrived };
  }

  /** Restores the state from `toJSON`. `counts` are those of all episodes, including these. */
  restore(earned: unknown, arrived: unknown, counts: Counts): void {
    const { horizon } = this.#problem;
    checkList(earned, "own.earned", horizon).forEach((sums, h) => {
      this.#earned[h]!.restore(sums, `own.earned[${h}]`);
    });
    try {
      this.#arrived = Counts.fromJSON(arrived as CountEntry[], { ...this.#problem, actions: 1 });
    } catch (error) {
      throw error instanceof ArgumentError ? new ArgumentError(`own.arrived: ${error.message}`) : error;
    }
    this.#checkArrivals(counts);
  }

  /** Checks that earnings and arrivals are of the same episodes, and that the counts include them all. */
  #checkArrivals(counts: Counts): void {
    const { horizon, states } = this.#problem;
    const { visits, stateVisits, start, size, next, times } = this.#arrived;
    for (let h = 0; h < horizon; h++) {
      const row = h * states;
      const n = visits[row]!;
      const elsewhere = stateVisits.subarray(row + 1, row + states).some((visit) => visit > 0);
      if (elsewhere || n !== this.#earned[h]!.count || (h > 0 && n > visits[row - states]!)) {
        throw new ArgumentError(`own.arrived and own.earned are not of the same episodes (step ${h}).`);
      }
      const arrivals = counts.arrivals(h);
      for (let i = start[row]!; i < start[row]! + size[row]!; i++) {
        if (times[i]! <= arrivals[next[i]!]!) continue;
        throw new ArgumentError(
          `own.arrived says that ${times[i]} episodes came to state ${next[i]} by step ${h}, the counts ${arrivals[next[i]!]}.`,
        );
      }
    }
  }
}
