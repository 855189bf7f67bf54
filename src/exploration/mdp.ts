/** Finite-horizon tabular Markov decision processes, stored sparsely in typed arrays. */
import { ArgumentError } from "../errors.ts";

/** Probabilities of one row may miss one by this much: what decimal fractions in a file add up to. */
const rowTolerance = 1e-9;

/** The sizes that everything else is laid out by: tables are [step][state][action], the action running fastest. */
export interface Sizes {
  readonly horizon: number;
  readonly states: number;
  readonly actions: number;
}

/**
 * A tabular MDP with horizon H: transitions P_h(s'|s,a), mean rewards r_h(s,a) in [0,1], an initial distribution.
 * The successors of row r = (h mod periods, s, a) are `successors[offsets[r] .. offsets[r + 1]]`.
 */
export interface Mdp extends Sizes {
  /** Distinct steps in the transitions: 1 if they are stationary, else the horizon. */
  readonly periods: number;
  readonly offsets: Int32Array;
  readonly successors: Int32Array;
  readonly probabilities: Float64Array;
  /** Mean rewards, [step][state][action]. */
  readonly rewards: Float64Array;
  readonly initial: Float64Array;
  /** What a learner sees of a reward: its mean, or a draw of 0 or 1 with that mean. */
  readonly rewardDraws: "mean" | "bernoulli";
}

/** One possible next state and its probability. */
export type Successor = readonly [state: number, probability: number];

export interface MdpParts extends Sizes {
  /** The same transitions at every step (`row` is then asked for step 0 only). */
  readonly stationary?: boolean;
  readonly initial: ArrayLike<number>;
  readonly rewardDraws?: "mean" | "bernoulli";
  row(step: number, state: number, action: number): Iterable<Successor>;
  reward(step: number, state: number, action: number): number;
}

/** Lays an MDP out and checks it; an error names the step, state and action that it found at fault. */
export function buildMdp(parts: MdpParts): Mdp {
  const { horizon, states, actions, stationary = false, rewardDraws = "mean" } = parts;
  checkSizes(parts);
  const periods = stationary ? 1 : horizon;
  const offsets = new Int32Array(periods * states * actions + 1);
  const successors: number[] = [];
  const probabilities: number[] = [];
  let row = 0;
  for (let h = 0; h < periods; h++) {
    for (let s = 0; s < states; s++) {
      for (let a = 0; a < actions; a++) {
        const merged = mergeSuccessors(parts.row(h, s, a), states, `transitions of step ${h}, state ${s}, action ${a}`);
        for (const [next, p] of merged) {
          successors.push(next);
          probabilities.push(p);
        }
        offsets[++row] = successors.length;
      }
    }
  }
  const rewards = new Float64Array(horizon * states * actions);
  for (let h = 0, i = 0; h < horizon; h++) {
    for (let s = 0; s < states; s++) {
      for (let a = 0; a < actions; a++) rewards[i++] = parts.reward(h, s, a);
    }
  }
  checkRewards(rewards, parts);
  return {
    horizon,
    states,
    actions,
    periods,
    offsets,
    successors: Int32Array.from(successors),
    probabilities: Float64Array.from(probabilities),
    rewards,
    initial: checkDistribution(Float64Array.from(parts.initial), states, "initial"),
    rewardDraws,
  };
}

/** Index of the transitions of (h, s, a) in `offsets`. */
export function rowOf(mdp: Mdp, step: number, state: number, action: number): number {
  return ((step % mdp.periods) * mdp.states + state) * mdp.actions + action;
}

export function checkSizes({ horizon, states, actions }: Sizes): void {
  for (const [name, value] of Object.entries({ horizon, states, actions })) {
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new ArgumentError(`${name} is ${value}; it must be a whole number of at least 1.`);
    }
  }
}

/** Rewards must be numbers in [0,1]: the bounds of every algorithm here assume it. */
export function checkRewards(rewards: Float64Array, sizes: Sizes): void {
  rewards.forEach((reward, i) => {
    if (!(reward >= 0 && reward <= 1)) {
      throw new ArgumentError(`rewards${place(i, sizes)} is ${reward}; rewards must lie in [0, 1].`);
    }
  });
}

/** "[h][s][a]" of an index into a table. */
export function place(index: number, { states, actions }: Sizes): string {
  const [a, s, h] = [index % actions, Math.floor(index / actions) % states, Math.floor(index / actions / states)];
  return `[${h}][${s}][${a}]`;
}

/** Checks that values are probabilities that sum to one, and gives them back. */
export function checkDistribution(values: Float64Array, length: number, name: string): Float64Array {
  if (values.length !== length) throw new ArgumentError(`${name} has ${values.length} entries, but needs ${length}.`);
  let sum = 0;
  values.forEach((p, i) => {
    if (!(p >= 0 && p <= 1)) throw new ArgumentError(`${name}[${i}] is ${p}, which is no probability.`);
    sum += p;
  });
  if (Math.abs(sum - 1) > rowTolerance) throw new ArgumentError(`${name} sums to ${sum}, not to 1.`);
  return values;
}

function mergeSuccessors(row: Iterable<Successor>, states: number, name: string): Successor[] {
  const merged = new Map<number, number>();
  let sum = 0;
  for (const [next, p] of row) {
    if (!Number.isInteger(next) || next < 0 || next >= states) {
      throw new ArgumentError(`The ${name} lead to state ${next}; states are 0 to ${states - 1}.`);
    }
    if (!(p >= 0 && p <= 1))
      throw new ArgumentError(`The ${name} have ${p} for state ${next}, which is no probability.`);
    sum += p;
    if (p > 0) merged.set(next, (merged.get(next) ?? 0) + p);
  }
  if (!(Math.abs(sum - 1) <= rowTolerance)) throw new ArgumentError(`The ${name} sum to ${sum}, not to 1.`);
  return [...merged].sort(([a], [b]) => a - b);
}
