/** Confidence bounds on the values of StepMix's candidate policies. */

import type { Episode } from "../mdp/episode.ts";
import { rewardBonus } from "./concentration.ts";
import type { Counts } from "./counts.ts";

/**
 * What the algorithms need to know. Candidate h0 plays the baseline for the first h0 steps and the optimistic policy from there:
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
  /** Call it when the counts of a row have changed. */
  refresh(row: number): void;
  /** Call it when an episode has been merged into the counts. */
  endEpisode(episode: Episode): void;
  /** The state of the bounds apart from the counts, for saving. */
  toJSON(): unknown;
  /** Restores the state from `toJSON`. Throws ArgumentError for anything else. */
  restore(saved: unknown): void;
  /**
   * The policy that is greedy in its own lower bound, with that bound: pessimistic value iteration (VI-LCB). Ties go to the
   * action seen most often.
   */
  pessimistic(): { policy: Int32Array; lower: number };
  /** How many rows (h, s, a) were backed up so far, which is the cost of decisions. */
  readonly backups: number;
}

/**
 * A lower bound that is safe to compare with a threshold: 0 if it is not a finite number. The implementations never produce
 * such a number as far as we know; this is a second line of defence.
 */
export const vouched = (lower: number): number => (Number.isFinite(lower) ? lower : 0);

/** The same for an upper bound: the horizon, which no return exceeds, if it is not a finite number. */
export const conceded = (upper: number, horizon: number): number => (Number.isFinite(upper) ? upper : horizon);

/** Bounds on a mean reward that has to be estimated; all of [0, 1] where the bonus is too large for a number. */
export function estimatedReward(
  counts: Counts,
  row: number,
  delta: number,
  scale: number,
): [low: number, high: number] {
  const mean = counts.rewardSum[row]! / counts.visits[row]!;
  const bonus = scale * rewardBonus(counts, row, delta);
  if (!Number.isFinite(bonus)) return [0, 1];
  return [Math.max(0, mean - bonus), Math.min(1, mean + bonus)];
}

/** sum over i of weights[i] * values[start + i] */
export function dot(weights: Float64Array, values: Float64Array, start: number): number {
  let sum = 0;
  for (let i = 0; i < weights.length; i++) sum += weights[i]! * values[start + i]!;
  return sum;
}
