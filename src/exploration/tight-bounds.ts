import { ArgumentError } from "../errors.ts";
import { type Bounds, dot, estimatedReward } from "./bounds.ts";
import { betRadius, dirichletRadius, lowestMean, MeanBound } from "./concentration.ts";
import { type CountEntry, Counts } from "./counts.ts";
import type { Episode } from "./learner.ts";
import type { Problem } from "./problem.ts";

/** Shares of delta; they add up to one, so that by the union bound all inequalities hold at once. */
const shares = { anyRow: 1 / 8, optimalRow: 1 / 4, certainRow: 1 / 8, earned: 3 / 8, arrival: 1 / 8 };

/** Extremes over all states of the functions that a policy's lower bound is made of. */
interface Look {
  readonly lowest: number;
  readonly lowestOptimal: number;
  readonly lowestCertain: number;
  readonly largestGap: number;
  readonly leastRest: number;
}

/**
 * Bounds that hold with the same confidence and are much tighter; docs/stepmix.md states and proves each one. delta (half
 * of it where rewards are estimated) is split among five kinds of event:
 *
 * - anyRow: each row's transitions p lie in a Kullback-Leibler ball around what was observed, which bounds p f for every
 *   function f, also for one that was chosen by looking at the data.
 * - optimalRow: a smaller ball that is valid for one fixed function, the optimal value one step later.
 * - certainRow: the same for what is certain without data, where rewards are known: the best actions now, the least later.
 * - earned: what the baseline's first h0 steps earn, and what is certain after them, by the episodes that began with them.
 * - arrival: in which state these steps end, a ball as for anyRow.
 *
 * With known rewards the premise that the baseline is safe is used too: the best actions at the last step are better than
 * the baseline's, so that candidate H - 1 is safe as well. The largest of the lower bounds counts.
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
  /** Tables [step][state], with one step more than the horizon: bounds on V*, the optimistic policy's lower bound. */
  readonly #optimalUpper: Float64Array;
  readonly #optimalLower: Float64Array;
  readonly #planLower: Float64Array;
  /** What is certain from a state on by good actions, and what the baseline earns in it on average; zero if not known. */
  readonly #certain: Float64Array;
  readonly #mean: Float64Array;
  /** Least and most that the first h0 steps of the baseline earn, with what is certain after them. */
  readonly #least: Float64Array;
  readonly #most: Float64Array;
  /** What they did earn, as a share of that range; h0 = 1 .. H. */
  readonly #earned: readonly MeanBound[];
  /** In which state they ended: row h0 - 1. */
  #arrived: Counts;
  /** Episodes that the counts began with. */
  #before: number;
  /** What the last plans left, so that only what depends on changed counts is worked out again. */
  readonly #kept: Kept;
  /** A lower bound's distances from V*'s upper bound and from what is certain, at the step that is looked at. */
  readonly #gap: Float64Array;
  readonly #rest: Float64Array;
  /** Values and weights of the observed successors of one row; bounds of a candidate at two steps in turn. */
  readonly #values: Float64Array;
  readonly #weights: Float64Array;
  readonly #head: readonly [Float64Array, Float64Array];

  constructor(problem: Problem, counts: Counts) {
    const { horizon, states, rewards, bonusScale, delta } = problem;
    this.#problem = problem;
    this.#counts = counts;
    this.#delta = rewards ? delta : delta / 2;
    const rows = counts.visits.length;
    const table = (steps: number) => new Float64Array(steps * states);
    this.#rewardLow = rewards ?? new Float64Array(rows);
    this.#rewardHigh = rewards ?? new Float64Array(rows).fill(1);
    this.#anyRadius = new Float64Array(rows);
    this.#optimalRadius = new Float64Array(rows);
    this.#certainRadius = new Float64Array(rows);
    this.#optimalUpper = table(horizon + 1);
    this.#optimalLower = table(horizon + 1);
    this.#planLower = table(horizon + 1);
    this.#certain = table(horizon + 1);
    this.#mean = table(horizon);
    this.#least = new Float64Array(horizon + 1);
    this.#most = new Float64Array(horizon + 1);
    const share = (this.#delta * shares.earned) / horizon;
    this.#earned = Array.from({ length: horizon }, () => new MeanBound(share, bonusScale));
    this.#arrived = new Counts({ horizon, states, actions: 1 });
    this.#gap = table(1);
    this.#rest = table(1);
    this.#values = table(1);
    this.#weights = table(1);
    this.#head = [table(1), table(1)];
    this.optimistic = new Int32Array(horizon * states);
    this.upper = horizon;
    this.#before = counts.stateVisits.subarray(0, states).reduce((a, b) => a + b, 0);
    this.#kept = new Kept(horizon, states, rows);
    if (rewards) this.#know(rewards);
    this.#setRanges();
    for (let row = 0; row < rows; row++) this.refresh(row);
  }

  /** What known rewards say without any data. */
  #know(rewards: Float64Array): void {
    const { horizon, states, actions, baseline } = this.#problem;
    for (let h = horizon - 1; h >= 0; h--) {
      const later = least(this.#certain, (h + 1) * states, states);
      for (let s = 0; s < states; s++) {
        const at = h * states + s;
        let best = 0;
        for (let row = at * actions; row < (at + 1) * actions; row++) {
          this.#mean[at]! += baseline[row]! * rewards[row]!;
          best = Math.max(best, rewards[row]!);
        }
        this.#certain[at] = best + later;
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
      this.#least[h + 1] = low + least(this.#certain, (h + 1) * states, states);
      this.#most[h + 1] = high + most(this.#certain, (h + 1) * states, states);
    }
  }

  refresh(row: number): void {
    const { visits, start, size, times } = this.#counts;
    const n = visits[row]!;
    if (n === 0) return;
    this.#kept.forget(row);
    const { horizon, states, actions, initial, bonusScale, rewards } = this.#problem;
    // Each step but the last has the same share, and its rows divide it; at step 0 only those that can be visited.
    const first = row < states * actions;
    const rows = actions * (first ? initial.reduce((count, p) => count + (p > 0 ? 1 : 0), 0) : states);
    const delta = this.#delta / Math.max(1, horizon - 1) / rows;
    const any = dirichletRadius(
      times.subarray(start[row]!, start[row]! + size[row]!),
      n,
      states,
      delta * shares.anyRow,
    );
    this.#anyRadius[row] = bonusScale * any;
    this.#optimalRadius[row] = bonusScale * Math.min(any, betRadius(n, delta * shares.optimalRow));
    this.#certainRadius[row] = bonusScale * Math.min(any, betRadius(n, delta * shares.certainRow));
    if (rewards) return;
    const [low, high] = estimatedReward(this.#counts, row, this.#delta, bonusScale);
    this.#rewardLow[row] = low;
    this.#rewardHigh[row] = high;
  }

  endEpisode({ baselineSteps, steps }: Episode): void {
    const { states, rewards } = this.#problem;
    let earned = 0;
    for (let h = 0; h < baselineSteps; h++) {
      const [state, , reward, next] = steps[h]!;
      // Of known rewards the mean over the baseline's actions counts: it has the same expectation, and varies less.
      earned += rewards ? this.#mean[h * states + state]! : reward;
      const [low, high] = [this.#least[h + 1]!, this.#most[h + 1]!];
      const value = earned + this.#certain[(h + 1) * states + next]!;
      this.#earned[h]!.add(high > low ? (value - low) / (high - low) : 1);
      this.#arrived.add(h, 0, 0, next);
    }
  }

  plan(): void {
    const { horizon, states, actions, initial } = this.#problem;
    const [upper, lower, policyLower] = [this.#optimalUpper, this.#optimalLower, this.#planLower];
    const kept = this.#kept;
    kept.plans++;
    for (let h = horizon - 1; h >= 0; h--) {
      const from = (h + 1) * states;
      const highest = most(upper, from, states);
      const lowest = least(lower, from, states);
      kept.look(kept.optimal, h, [highest, lowest]);
      for (let at = h * states; at < from; at++) {
        let best = 0;
        let [high, low] = [-Infinity, -Infinity];
        for (let a = 0; a < actions; a++) {
          const row = at * actions + a;
          if (kept.stale(kept.optimal, h, row, this.#counts)) {
            const radius = this.#optimalRadius[row]!;
            kept.above[row] = this.#rewardHigh[row]! + this.#extreme(row, h, upper, from, highest, radius, -1);
            kept.below[row] = this.#rewardLow[row]! + this.#extreme(row, h, lower, from, lowest, radius, 1);
            this.backups++;
          }
          if (kept.above[row]! > high) best = a;
          high = Math.max(high, kept.above[row]!);
          low = Math.max(low, kept.below[row]!);
        }
        this.optimistic[at] = best;
        if (upper[at] !== high || lower[at] !== low) kept.change(at);
        upper[at] = high;
        lower[at] = low;
      }
      const look = this.#look(h, policyLower, from);
      kept.look(kept.policy, h, Object.values(look));
      for (let at = h * states; at < from; at++) {
        const row = at * actions + this.optimistic[at]!;
        if (kept.stale(kept.policy, h, row, this.#counts)) {
          kept.policyBelow[row] = this.#policyLower(h, row, policyLower, from, look);
        }
        if (policyLower[at] !== kept.policyBelow[row]) kept.changePolicy(at);
        policyLower[at] = kept.policyBelow[row]!;
      }
    }
    this.upper = dot(initial, upper, 0);
  }

  /** Least (side 1) or largest (-1) mean of values one step after `row` over its ball; no value is beyond `limit`. */
  #extreme(row: number, h: number, values: Float64Array, from: number, limit: number, radius: number, side: 1 | -1) {
    if (h === this.#problem.horizon - 1) return 0;
    return this.#ball(this.#counts, row, values, from, limit, radius, side);
  }

  #ball(
    { visits, start, size, next, times }: Counts,
    row: number,
    values: Float64Array,
    from: number,
    limit: number,
    radius: number,
    side: 1 | -1,
  ): number {
    const n = visits[row]!;
    if (n === 0) return limit;
    const first = start[row]!;
    const count = size[row]!;
    for (let i = 0; i < count; i++) {
      this.#weights[i] = times[first + i]! / n;
      this.#values[i] = side * (values[from + next[first + i]!]! - limit);
    }
    return limit + side * lowestMean(this.#weights, this.#values, count, radius);
  }

  /** What all rows of step h need to know of a lower bound one step later. */
  #look(h: number, lower: Float64Array, from: number): Look {
    const { states } = this.#problem;
    const later = (h + 1) * states;
    for (let s = 0; s < states; s++) {
      this.#gap[s] = this.#optimalUpper[later + s]! - lower[from + s]!;
      this.#rest[s] = lower[from + s]! - this.#certain[later + s]!;
    }
    return {
      lowest: least(lower, from, states),
      lowestOptimal: least(this.#optimalLower, later, states),
      lowestCertain: least(this.#certain, later, states),
      largestGap: most(this.#gap, 0, states),
      leastRest: least(this.#rest, 0, states),
    };
  }

  /** Lower bound on a policy's value that plays `row`, from its lower bound one step later, which `look` was told of. */
  #policyLower(h: number, row: number, lower: Float64Array, from: number, look: Look): number {
    this.backups++;
    const { horizon, states, rewards } = this.#problem;
    const reward = this.#rewardLow[row]!;
    if (h === horizon - 1) return reward;
    const later = (h + 1) * states;
    const [any, optimal] = [this.#anyRadius[row]!, this.#optimalRadius[row]!];
    const direct = this.#extreme(row, h, lower, from, look.lowest, any, 1);
    // V^pi = V* - (V* - V^pi), where the first is a fixed function and the second is small.
    const byOptimal =
      this.#extreme(row, h, this.#optimalLower, later, look.lowestOptimal, optimal, 1) -
      this.#extreme(row, h, this.#gap, 0, look.largestGap, any, -1);
    if (!rewards || h === horizon - 2) return reward + Math.max(direct, byOptimal);
    // V^pi = what is certain + the rest, likewise.
    const byCertain =
      this.#extreme(row, h, this.#certain, later, look.lowestCertain, this.#certainRadius[row]!, 1) +
      this.#extreme(row, h, this.#rest, 0, look.leastRest, any, 1);
    return reward + Math.max(direct, byOptimal, byCertain);
  }

  lower(h0: number): number {
    // Where all that was seen are episodes of these candidates, those say more than the induction over the baseline's steps.
    const others = h0 === 0 || this.#before > 0;
    return Math.max(this.#byEpisodes(h0), others ? this.#byInduction(h0) : 0);
  }

  #byInduction(h0: number): number {
    const { states, actions, baseline, initial } = this.#problem;
    let [lower, from] = [this.#planLower, h0 * states];
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

  /** The lower bound of a candidate by the episodes that began with the baseline as it does, and by the premise. */
  #byEpisodes(h0: number): number {
    const { horizon, states, bonusScale, rewards, threshold } = this.#problem;
    if (h0 === 0) return 0;
    const [low, high] = [this.#least[h0]!, this.#most[h0]!];
    const earned = low + (high - low) * this.#earned[h0 - 1]!.lower;
    if (h0 === horizon) return earned;
    const { visits, start, size, times } = this.#arrived;
    const [row, n] = [(h0 - 1) * states, visits[(h0 - 1) * states]!];
    const delta = (this.#delta * shares.arrival) / (horizon - 1);
    const seen = times.subarray(start[row]!, start[row]! + size[row]!);
    const radius = n === 0 ? Infinity : bonusScale * dirichletRadius(seen, n, states, delta);
    for (let s = 0; s < states; s++) {
      this.#rest[s] = this.#planLower[h0 * states + s]! - this.#certain[h0 * states + s]!;
    }
    const rest = this.#ball(this.#arrived, row, this.#rest, 0, least(this.#rest, 0, states), radius, 1);
    if (!rewards || h0 < horizon - 1) return earned + rest;
    // The best actions at the last step instead of the baseline's: by how much they are better, on top of the threshold.
    const last = this.#gap;
    for (let s = 0; s < states; s++) last[s] = this.#certain[h0 * states + s]! - this.#mean[h0 * states + s]!;
    const better = this.#ball(this.#arrived, row, last, 0, least(last, 0, states), radius, 1);
    return Math.max(earned + rest, threshold + better);
  }

  upperOf(h0: number): number {
    const { horizon, states, actions, baseline, initial } = this.#problem;
    let [upper, from] = [this.#optimalUpper, h0 * states];
    for (let h = h0 - 1; h >= 0; h--) {
      const here = this.#head[h % 2]!.fill(0);
      const highest = most(upper, from, states);
      for (let row = h * states * actions; row < (h + 1) * states * actions; row++) {
        if (baseline[row] === 0) continue;
        const later = h === horizon - 1 ? 0 : this.#extreme(row, h, upper, from, highest, this.#anyRadius[row]!, -1);
        here[Math.floor(row / actions) - h * states]! += baseline[row]! * (this.#rewardHigh[row]! + later);
      }
      [upper, from] = [here, 0];
    }
    return dot(initial, upper, from);
  }

  pessimistic(): { policy: Int32Array; lower: number } {
    this.plan();
    const { horizon, states, actions, initial } = this.#problem;
    const { visits } = this.#counts;
    const policy = new Int32Array(horizon * states);
    const lower = new Float64Array((horizon + 1) * states);
    for (let h = horizon - 1; h >= 0; h--) {
      const from = (h + 1) * states;
      const look = this.#look(h, lower, from);
      for (let at = h * states; at < from; at++) {
        let value = -Infinity;
        for (let a = 0; a < actions; a++) {
          const row = at * actions + a;
          const found = this.#policyLower(h, row, lower, from, look);
          const tie = found === value && visits[row]! > visits[at * actions + policy[at]!]!;
          if (found > value || tie) policy[at] = a;
          value = Math.max(value, found);
        }
        lower[at] = value;
      }
    }
    return { policy, lower: dot(initial, lower, 0) };
  }

  toJSON(): unknown {
    return { earned: this.#earned, arrived: this.#arrived, before: this.#before };
  }

  restore(saved: unknown): void {
    const { earned, arrived, before } = (saved ?? {}) as {
      earned?: unknown[];
      arrived?: CountEntry[];
      before?: number;
    };
    const { horizon } = this.#problem;
    if (!Array.isArray(earned) || earned.length !== horizon || !Array.isArray(arrived) || !Number.isInteger(before)) {
      throw new ArgumentError(`own is not what tight bounds save: earned (a list of ${horizon}), arrived and before.`);
    }
    this.#before = before!;
    earned.forEach((sums, i) => {
      this.#earned[i]!.restore(sums, `own.earned[${i}]`);
    });
    this.#arrived = Counts.fromJSON(arrived, this.#arrived);
  }
}

/** Backups of one kind: when (at which plan) each row was last backed up, and when what all rows of a step use last changed. */
interface Backups {
  readonly at: Int32Array;
  readonly changed: Int32Array;
  readonly limits: number[][];
  readonly limitsChanged: Int32Array;
}

/**
 * What backups gave, kept until one of their inputs changes: the row's counts, a successor's bounds, the limits of all
 * states. With the same inputs a backup gives the same bits, so keeping them changes nothing but the time that it takes.
 */
class Kept {
  plans = 0;
  readonly above: Float64Array;
  readonly below: Float64Array;
  readonly policyBelow: Float64Array;
  readonly optimal: Backups;
  readonly policy: Backups;
  readonly #states: number;

  constructor(horizon: number, states: number, rows: number) {
    this.#states = states;
    this.above = new Float64Array(rows);
    this.below = new Float64Array(rows);
    this.policyBelow = new Float64Array(rows);
    const backups = (): Backups => ({
      at: new Int32Array(rows),
      changed: new Int32Array((horizon + 1) * states),
      limits: Array.from({ length: horizon }, () => []),
      limitsChanged: new Int32Array(horizon),
    });
    this.optimal = backups();
    this.policy = backups();
  }

  /** The counts of a row have changed. */
  forget(row: number): void {
    this.optimal.at[row] = 0;
    this.policy.at[row] = 0;
  }

  /** The bounds on V* of a step and state have changed; a policy's lower bound depends on them too. */
  change(at: number): void {
    this.optimal.changed[at] = this.plans;
    this.policy.changed[at] = this.plans;
  }

  changePolicy(at: number): void {
    this.policy.changed[at] = this.plans;
  }

  /** Says what the backups of step h will use of all states. */
  look({ limits, limitsChanged }: Backups, h: number, now: number[]): void {
    if (now.some((value, i) => value !== limits[h]![i])) limitsChanged[h] = this.plans;
    limits[h] = now;
  }

  /** Whether a row has to be backed up again; if so, it counts as done. */
  stale({ at, changed, limitsChanged }: Backups, h: number, row: number, { start, size, next }: Counts): boolean {
    const since = at[row]!;
    let stale = since === 0 || limitsChanged[h]! > since;
    const later = (h + 1) * this.#states;
    for (let i = start[row]!; !stale && i < start[row]! + size[row]!; i++) stale = changed[later + next[i]!]! > since;
    if (stale) at[row] = this.plans;
    return stale;
  }
}

function least(values: Float64Array, from: number, count: number): number {
  let found = values[from]!;
  for (let i = from + 1; i < from + count; i++) if (values[i]! < found) found = values[i]!;
  return found;
}

function most(values: Float64Array, from: number, count: number): number {
  let found = values[from]!;
  for (let i = from + 1; i < from + count; i++) if (values[i]! > found) found = values[i]!;
  return found;
}
