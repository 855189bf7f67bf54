/** Finite-horizon tabular Markov decision processes, stored sparsely in typed arrays. */
import { shown } from "../../checks.ts";
import { ArgumentError } from "../../errors.ts";
import { checkCount, checkList, checkNumber } from "./reading.ts";

/**
 * Probabilities whose sum is within this of one (decimal fractions in a file) are used as they are. Those within `tolerance` are
 * divided by their sum (rounded to float32; the tolerance is the square root of its epsilon, as in numpy.random.choice).
 */
const exact = 1e-9;
const tolerance = Math.sqrt(2 ** -23);

/**
 * Size limits of MDPs. A learner takes 100 to 250 bytes per row (h, s, a), and 12 to 24 per observed successor, so this is about
 * 1 GB.
 */
export const limits = { horizon: 1e6, states: 1e6, actions: 1e5, rows: 4e6, successors: 2 ** 24 };

/** The sizes that determine the layout of tables: [step][state][action], with the action as the fastest index. */
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
  /** What a learner observes as reward: the mean, or a draw of 0 or 1 with that mean. */
  readonly rewardDraws: "mean" | "bernoulli";
  /** The original units, if rewards had to be mapped to [0,1]. */
  readonly units?: RewardUnits;
}

/** A reward r in [0,1] was `least` + `scale` r in the environment's own units. */
export interface RewardUnits {
  readonly least: number;
  readonly scale: number;
}

/** Converts a return of rewards in [0,1] to the environment's own units. */
export function toOwnUnits({ units, horizon }: Pick<Mdp, "units" | "horizon">, value: number): number {
  return units ? horizon * units.least + units.scale * value : value;
}

/** Converts a return in the environment's own units to one of rewards in [0,1]. */
export function fromOwnUnits({ units, horizon }: Pick<Mdp, "units" | "horizon">, value: number): number {
  return units ? (value - horizon * units.least) / units.scale : value;
}

/** One possible next state and its probability. */
export type Successor = readonly [state: number, probability: number];

export interface MdpParts extends Sizes {
  /** The same transitions at every step (`row` is then asked for step 0 only). */
  readonly stationary?: boolean;
  readonly initial: ArrayLike<number>;
  readonly rewardDraws?: "mean" | "bernoulli";
  readonly units?: RewardUnits;
  /** The successors of an action, with their probabilities. */
  row(step: number, state: number, action: number): Iterable<Successor>;
  /** The mean reward of an action. */
  reward(step: number, state: number, action: number): number;
}

/** Builds an MDP and checks it. An error names the step, state and action that are wrong. */
export function buildMdp(parts: MdpParts): Mdp {
  const { horizon, states, actions, stationary = false, rewardDraws = "mean", units } = parts;
  checkSizes(parts);
  const initial = checkDistribution(numbers(parts.initial, "initial", states), states, "initial");
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
        if (successors.length > limits.successors) {
          throw new ArgumentError(
            `The transitions of step ${h}, state ${s}, action ${a} are the first beyond ${limits.successors} successors of all ` +
              "rows together, which is the limit.",
          );
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
    initial,
    rewardDraws,
    ...(units ? { units } : {}),
  };
}

/** An initial distribution in which all episodes start in one state. */
export function startIn(state: number, states: number): Float64Array {
  const initial = new Float64Array(checkCount(states, "states", 1, limits.states));
  initial[state] = 1;
  return initial;
}

/** Checks a list of numbers. Values that could only be converted to numbers are refused. */
export function numbers(values: ArrayLike<unknown>, name: string, length: number): Float64Array {
  if (ArrayBuffer.isView(values)) return Float64Array.from(values as unknown as ArrayLike<number>);
  return Float64Array.from(checkList(values, name, length), (value, i) => checkNumber(value, `${name}[${i}]`));
}

/** Index of the transitions of (h, s, a) in `offsets`. */
export function rowOf(mdp: Mdp, step: number, state: number, action: number): number {
  return ((step % mdp.periods) * mdp.states + state) * mdp.actions + action;
}

export function checkSizes({ horizon, states, actions }: Sizes): void {
  checkCount(horizon, "horizon", 1, limits.horizon);
  checkCount(states, "states", 1, limits.states);
  checkCount(actions, "actions", 1, limits.actions);
  if (horizon * states * actions > limits.rows) {
    throw new ArgumentError(
      `horizon ${horizon} x states ${states} x actions ${actions} is more than the ${limits.rows} rows that there may be.`,
    );
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

/** Checks that values are probabilities that sum to one, and returns them, rescaled if their sum is off by rounding. */
export function checkDistribution(values: Float64Array, length: number, name: string): Float64Array {
  if (values.length !== length) throw new ArgumentError(`${name} has ${values.length} entries, but needs ${length}.`);
  let sum = 0;
  for (let i = 0; i < length; i++) {
    const p = values[i]!;
    if (!isProbability(p)) throw new ArgumentError(`${name}[${i}] is ${p}, which is no probability.`);
    sum += p;
  }
  const total = checkSum(sum, `${name} sums`);
  return total === 1 ? values : values.map((p) => p / total);
}

const isProbability = (p: unknown): p is number => typeof p === "number" && p >= 0 && p <= 1 + tolerance;

/** The divisor for probabilities with this sum: 1, or the sum if it is off by rounding. */
export function checkSum(sum: number, what: string): number {
  const off = Math.abs(sum - 1);
  if (!(off <= tolerance)) throw new ArgumentError(`${what} to ${sum}, not to 1.`);
  return off <= exact ? 1 : sum;
}

function mergeSuccessors(row: Iterable<Successor>, states: number, name: string): Successor[] {
  const merged = new Map<number, number>();
  let sum = 0;
  for (const [next, p] of row) {
    if (!Number.isInteger(next) || next < 0 || next >= states) {
      throw new ArgumentError(`The ${name} lead to state ${shown(next)}; states are 0 to ${states - 1}.`);
    }
    if (!isProbability(p)) {
      throw new ArgumentError(`The ${name} have ${shown(p)} for state ${next}, which is no probability.`);
    }
    sum += p;
    if (p > 0) merged.set(next, (merged.get(next) ?? 0) + p);
  }
  const total = checkSum(sum, `The ${name} sum`);
  const sorted = [...merged].sort(([a], [b]) => a - b);
  return total === 1 ? sorted : sorted.map(([next, p]): Successor => [next, p / total]);
}
