import { checkTight } from "../mdp/decision-cost.ts";
import type { Episode } from "../mdp/episode.ts";
import type { Rest } from "../mdp/policy.ts";
import type { Problem } from "../mdp/problem.ts";
import { checkCount, checkObject } from "../mdp/reading.ts";
import { BackupCache, type Backups } from "./backup-cache.ts";
import { BaselineEpisodes } from "./baseline-episodes.ts";
import { type Bounds, conceded, dot, estimatedReward, vouched } from "./bounds.ts";
import { betRadius, dirichletRadius, scaledRadius } from "./concentration.ts";
import type { Counts } from "./counts.ts";
import { KlBalls, largest, smallest } from "./kl-balls.ts";

/** Shares of delta. They sum to one, so by the union bound all inequalities hold at once. */
const shares = { anyRow: 1 / 8, optimalRow: 1 / 4, certainRow: 1 / 8, earned: 3 / 8, arrival: 1 / 8 };

/** Smallest and largest values, over all states, of the functions that a policy's lower bound is computed from. */
interface Look {
  readonly lowest: number;
  readonly lowestOptimal: number;
  readonly lowestCertain: number;
  readonly largestGap: number;
  readonly leastRest: number;
}

/** A deterministic policy, [step][state], with tables of one step more. */
interface PlannedPolicy {
  readonly actions: Int32Array;
  /** Lower bounds on its value. */
  readonly lower: Float64Array;
  /**
   * Its value under the most favourable transitions in the balls of `optimalRow`. For the optimistic policy this is an
   * upper bound on V*.
   */
  readonly promise: Float64Array;
}

/**
 * Bounds that hold with the same confidence as the paper's and are much tighter. docs/stepmix.md states and proves each one.
 * delta (half of it if rewards are estimated) is split among five kinds of event:
 *
 * - anyRow: each row's transitions p lie in a Kullback-Leibler ball around what was observed, which bounds p f for every
 *   function f, even one that was chosen by looking at the data.
 * - optimalRow: a smaller ball that is valid for one fixed function, the optimal value one step later.
 * - certainRow: the same for the return that is certain without data, if rewards are known: the best actions now, the worst
 *   states later.
 * - earned: what the baseline's first h0 steps earn plus what is certain after them, from the episodes that began with them.
 * - arrival: the state in which these steps end, with a ball as for anyRow.
 */
export class TightBounds implements Bounds {
  readonly optimistic: Int32Array;
  upper: number;
  backups = 0;
  readonly #problem: Problem;
  readonly #counts: Counts;
  readonly #delta: number;
  readonly #rewardLow: Float64Array;
  readonly #rewardHigh: Float64Array;
  /** Radii of each row's balls. */
  readonly #anyRadius: Float64Array;
  readonly #optimalRadius: Float64Array;
  readonly #certainRadius: Float64Array;
  /**
   * Lower bounds on V*; the upper bounds are the `promise` of the optimistic policy. Tables are [step][state], with one
   * step more.
   */
  readonly #optimalLower: Float64Array;
  /** The policy that is greedy in its upper bound, and the one that is greedy in its lower bound. */
  readonly #policies: Readonly<Record<Rest, PlannedPolicy>>;
  readonly #episodes: BaselineEpisodes;
  /** Number of episodes that were in the counts from the start. */
  #before: number;
  /** Results of earlier plans, so that only what depends on changed counts is computed again. */
  readonly #cache: BackupCache;
  readonly #balls: KlBalls;
  /** Distances of a lower bound from V*'s upper bound and from the certain return, at the current step. */
  readonly #gap: Float64Array;
  readonly #rest: Float64Array;
  /** Bounds of a candidate at two steps, used alternately. */
  readonly #head: readonly [Float64Array, Float64Array];

  constructor(problem: Problem, counts: Counts) {
    const { horizon, states, rewards, delta } = problem;
    checkTight(problem);
    this.#problem = problem;
    this.#counts = counts;
    this.#delta = rewards ? delta : delta / 2;
    const rows = counts.visits.length;
    const table = (steps: number) => new Float64Array(steps * states);
    const policy = (): PlannedPolicy => ({
      actions: new Int32Array(horizon * states),
      lower: table(horizon + 1),
      promise: table(horizon + 1),
    });
    this.#rewardLow = rewards ?? new Float64Array(rows);
    this.#rewardHigh = rewards ?? new Float64Array(rows).fill(1);
    this.#anyRadius = new Float64Array(rows);
    this.#optimalRadius = new Float64Array(rows);
    this.#certainRadius = new Float64Array(rows);
    this.#optimalLower = table(horizon + 1);
    this.#policies = { optimistic: policy(), pessimistic: policy() };
    this.optimistic = this.#policies.optimistic.actions;
    this.upper = horizon;
    const share = { earned: this.#delta * shares.earned, arrival: this.#delta * shares.arrival };
    this.#episodes = new BaselineEpisodes(problem, share);
    this.#before = counts.stateVisits.subarray(0, states).reduce((a, b) => a + b, 0);
    this.#cache = new BackupCache(horizon, states, rows);
    this.#balls = new KlBalls(states);
    this.#gap = table(1);
    this.#rest = table(1);
    this.#head = [table(1), table(1)];
    for (let row = 0; row < rows; row++) this.refresh(row);
  }

  refresh(row: number): void {
    const { visits, start, size, times } = this.#counts;
    const n = visits[row]!;
    if (n === 0) return;
    this.#cache.forget(row);
    const { horizon, states, actions, initial, bonusScale, rewards } = this.#problem;
    // Every step but the last has the same share, divided among its rows; at step 0 only among those that can be visited.
    const first = row < states * actions;
    const rows = actions * (first ? initial.reduce((count, p) => count + (p > 0 ? 1 : 0), 0) : states);
    const delta = this.#delta / Math.max(1, horizon - 1) / rows;
    const any = dirichletRadius(
      times.subarray(start[row]!, start[row]! + size[row]!),
      n,
      states,
      delta * shares.anyRow,
    );
    this.#anyRadius[row] = scaledRadius(any, bonusScale);
    this.#optimalRadius[row] = scaledRadius(Math.min(any, betRadius(n, delta * shares.optimalRow)), bonusScale);
    this.#certainRadius[row] = scaledRadius(Math.min(any, betRadius(n, delta * shares.certainRow)), bonusScale);
    if (rewards) return;
    const [low, high] = estimatedReward(this.#counts, row, this.#delta, bonusScale);
    this.#rewardLow[row] = low;
    this.#rewardHigh[row] = high;
  }

  endEpisode(episode: Episode): void {
    this.#episodes.add(episode);
  }

  plan(): void {
    const { horizon, states, actions, initial } = this.#problem;
    const { actions: chosen, lower: policyLower, promise: upper } = this.#policies.optimistic;
    const lower = this.#optimalLower;
    const cache = this.#cache;
    const { above, optimal } = cache;
    cache.plans++;
    for (let h = horizon - 1; h >= 0; h--) {
      const from = (h + 1) * states;
      const highest = largest(upper, from, states);
      const lowest = smallest(lower, from, states);
      cache.setLimits(optimal, h, [highest, lowest]);
      for (let at = h * states; at < from; at++) {
        let best = 0;
        let [high, low] = [-Infinity, -Infinity];
        for (let a = 0; a < actions; a++) {
          const row = at * actions + a;
          if (cache.needsUpdate(optimal, h, row, this.#counts)) {
            const radius = this.#optimalRadius[row]!;
            above[row] = this.#rewardHigh[row]! + this.#extreme(row, h, upper, from, highest, radius, -1);
            optimal.below[row] = this.#rewardLow[row]! + this.#extreme(row, h, lower, from, lowest, radius, 1);
            this.backups++;
          }
          if (above[row]! > high) best = a;
          high = Math.max(high, above[row]!);
          low = Math.max(low, optimal.below[row]!);
        }
        chosen[at] = best;
        if (upper[at] !== high || lower[at] !== low) cache.markChanged(at);
        upper[at] = high;
        lower[at] = low;
      }
      const look = this.#cachedLook(cache.optimistic, h, policyLower);
      for (let at = h * states; at < from; at++) {
        const row = at * actions + chosen[at]!;
        this.#setLower(
          cache.optimistic,
          at,
          policyLower,
          this.#cachedLower(cache.optimistic, h, row, policyLower, look),
        );
      }
    }
    this.upper = conceded(dot(initial, upper, 0), horizon);
  }

  /** Backward induction that is greedy in its own lower bound; ties go to the action seen most often. Call it after `plan`. */
  planPessimistic(): void {
    const { horizon, states, actions } = this.#problem;
    const { visits } = this.#counts;
    const { actions: chosen, lower, promise } = this.#policies.pessimistic;
    const { pessimistic } = this.#cache;
    for (let h = horizon - 1; h >= 0; h--) {
      const from = (h + 1) * states;
      const look = this.#cachedLook(pessimistic, h, lower);
      const highest = largest(promise, from, states);
      for (let at = h * states; at < from; at++) {
        let [best, value] = [at * actions, -Infinity];
        for (let row = at * actions; row < (at + 1) * actions; row++) {
          const found = this.#cachedLower(pessimistic, h, row, lower, look);
          if (found > value || (found === value && visits[row]! > visits[best]!)) best = row;
          value = Math.max(value, found);
        }
        chosen[at] = best - at * actions;
        this.#setLower(pessimistic, at, lower, value);
        const later = this.#extreme(best, h, promise, from, highest, this.#optimalRadius[best]!, -1);
        promise[at] = this.#rewardHigh[best]! + later;
      }
    }
  }

  pessimistic(): { policy: Int32Array; lower: number } {
    this.plan();
    this.planPessimistic();
    const { actions, lower } = this.#policies.pessimistic;
    return { policy: actions.slice(), lower: vouched(dot(this.#problem.initial, lower, 0)) };
  }

  /** The actions of a policy from the last plan, [step][state]. */
  actionsOf(rest: Rest): Int32Array {
    return this.#policies[rest].actions;
  }

  /**
   * The smallest (side 1) or largest (side -1) mean, over the ball of `row`, of values one step later. No value lies
   * beyond `limit`.
   */
  #extreme(row: number, h: number, values: Float64Array, from: number, limit: number, radius: number, side: 1 | -1) {
    if (h === this.#problem.horizon - 1) return 0;
    return this.#balls.mean(this.#counts, row, values, from, limit, radius, side);
  }

  #cachedLook(backups: Backups, h: number, lower: Float64Array): Look {
    const look = this.#look(h, lower, (h + 1) * this.#problem.states);
    this.#cache.setLimits(backups, h, Object.values(look));
    return look;
  }

  #cachedLower(backups: Backups, h: number, row: number, lower: Float64Array, look: Look): number {
    if (this.#cache.needsUpdate(backups, h, row, this.#counts)) {
      backups.below[row] = this.#policyLower(h, row, lower, (h + 1) * this.#problem.states, look);
    }
    return backups.below[row]!;
  }

  #setLower(backups: Backups, at: number, lower: Float64Array, value: number): void {
    if (lower[at] !== value) backups.changed[at] = this.#cache.plans;
    lower[at] = value;
  }

  /** What all rows of step h use of a lower bound one step later. */
  #look(h: number, lower: Float64Array, from: number): Look {
    const { states } = this.#problem;
    const later = (h + 1) * states;
    for (let s = 0; s < states; s++) {
      this.#gap[s] = this.#policies.optimistic.promise[later + s]! - lower[from + s]!;
      this.#rest[s] = lower[from + s]! - this.#episodes.certain[later + s]!;
    }
    return {
      lowest: smallest(lower, from, states),
      lowestOptimal: smallest(this.#optimalLower, later, states),
      lowestCertain: smallest(this.#episodes.certain, later, states),
      largestGap: largest(this.#gap, 0, states),
      leastRest: smallest(this.#rest, 0, states),
    };
  }

  /**
   * Lower bound on the value of a policy that plays `row`, from its lower bound one step later, which `look` was
   * computed for.
   */
  #policyLower(h: number, row: number, lower: Float64Array, from: number, look: Look): number {
    this.backups++;
    const { horizon, states, rewards } = this.#problem;
    const reward = this.#rewardLow[row]!;
    if (h === horizon - 1) return reward;
    const later = (h + 1) * states;
    const [any, optimal] = [this.#anyRadius[row]!, this.#optimalRadius[row]!];
    const direct = this.#extreme(row, h, lower, from, look.lowest, any, 1);
    // V^pi = V* - (V* - V^pi): the first term is a fixed function, and the second is small.
    const byOptimal =
      this.#extreme(row, h, this.#optimalLower, later, look.lowestOptimal, optimal, 1) -
      this.#extreme(row, h, this.#gap, 0, look.largestGap, any, -1);
    if (!rewards || h === horizon - 2) return reward + Math.max(direct, byOptimal);
    // Likewise V^pi = the certain return + the rest.
    const byCertain =
      this.#extreme(row, h, this.#episodes.certain, later, look.lowestCertain, this.#certainRadius[row]!, 1) +
      this.#extreme(row, h, this.#rest, 0, look.leastRest, any, 1);
    return reward + Math.max(direct, byOptimal, byCertain);
  }

  lower(h0: number, rest: Rest = "optimistic"): number {
    const { lower } = this.#policies[rest];
    // If all observations come from episodes of these candidates, those episodes say more than induction over the
    // baseline's steps.
    const others = h0 === 0 || this.#before > 0;
    const ofEpisodes = vouched(this.#episodes.lower(h0, lower));
    return others ? Math.max(ofEpisodes, vouched(this.#byInduction(h0, lower))) : Math.max(ofEpisodes, 0);
  }

  #byInduction(h0: number, later: Float64Array): number {
    const { states, actions, baseline, initial } = this.#problem;
    let [lower, from] = [later, h0 * states];
    for (let h = h0 - 1; h >= 0; h--) {
      const here = this.#head[h % 2]!.fill(0);
      const look = this.#look(h, lower, from);
      for (let row = h * states * actions; row < (h + 1) * states * actions; row++) {
        const s = Math.floor(row / actions) - h * states;
        if (baseline[row] === 0 || (h === 0 && initial[s] === 0)) continue;
        here[s]! += baseline[row]! * this.#policyLower(h, row, lower, from, look);
      }
      [lower, from] = [here, 0];
    }
    return dot(initial, lower, from);
  }

  upperOf(h0: number): number {
    const { horizon } = this.#problem;
    return conceded(this.#best(h0, this.#policies.optimistic.promise, this.#anyRadius), horizon);
  }

  /** A candidate's value under the most favourable transitions. Never more than `upper`, but not an upper bound itself. */
  promise(h0: number, rest: Rest): number {
    return this.#best(h0, this.#policies[rest].promise, this.#optimalRadius);
  }

  /** The largest value, over balls of these radii, of h0 steps of the baseline followed by a policy with the values `later`. */
  #best(h0: number, later: Float64Array, radii: Float64Array): number {
    const { states, actions, baseline, initial } = this.#problem;
    let [values, from] = [later, h0 * states];
    for (let h = h0 - 1; h >= 0; h--) {
      const here = this.#head[h % 2]!.fill(0);
      const highest = largest(values, from, states);
      for (let row = h * states * actions; row < (h + 1) * states * actions; row++) {
        const s = Math.floor(row / actions) - h * states;
        if (baseline[row] === 0 || (h === 0 && initial[s] === 0)) continue;
        const best = this.#extreme(row, h, values, from, highest, radii[row]!, -1);
        here[s]! += baseline[row]! * (this.#rewardHigh[row]! + best);
      }
      [values, from] = [here, 0];
    }
    return dot(initial, values, from);
  }

  toJSON(): unknown {
    return { ...this.#episodes.toJSON(), before: this.#before };
  }

  restore(saved: unknown): void {
    const { earned, arrived, before } = checkObject(saved, "own (earned, arrived and before of tight bounds)");
    // The constructor counted all episodes, including those that this learner played.
    this.#before = checkCount(before, "own.before", 0, this.#before);
    this.#episodes.restore(earned, arrived, this.#counts);
  }
}
