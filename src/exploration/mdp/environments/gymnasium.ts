/** Tabular Gymnasium environments, from their transition table `env.unwrapped.P` written as JSON. */
import { ArgumentError } from "../../../errors.ts";
import { buildMdp, checkSizes, checkSum, type Mdp, numbers, type Successor, startIn } from "../mdp.ts";
import { checkCount, checkList, checkNumber, checkObject } from "../reading.ts";
import cliffWalkingTable from "./cliff-walking.json" with { type: "json" };
import frozenLakeTable from "./frozen-lake-4x4.json" with { type: "json" };

/** One outcome of an action in a Gymnasium table. */
export type Outcome = readonly [probability: number, next: number, reward: number, terminated: boolean];

/** P[state][action] is a list of [probability, next state, reward, terminated], as Gymnasium's toy-text environments have. */
export interface GymnasiumTable {
  readonly P: Readonly<Record<string, Readonly<Record<string, readonly Outcome[]>>>>;
  /** The start state, or the probabilities of all states. */
  readonly initial: number | readonly number[];
  readonly horizon?: number;
}

/** Larger rewards would lose digits in their differences. */
const mostReward = 1e12;

/**
 * The MDP of a table over `horizon` steps. Rewards are mapped to [0,1] with the same shift and scale at every step, also
 * after an episode has ended, so that policies keep their order. `units` of the result holds the mapping: a return V here is
 * (V_gymnasium - H * least) / (most - least), and `toOwnUnits` converts back. A terminated transition leads to one extra state
 * without further reward. Probabilities may be rounded to float32.
 */
export function gymnasium(table: GymnasiumTable, { horizon = table.horizon }: { horizon?: number } = {}): Mdp {
  if (horizon === undefined) {
    throw new ArgumentError("A Gymnasium table needs a horizon: write it into the file or give it.");
  }
  const { outcomes, states, actions } = checkTable(table, horizon);
  const ended = states;
  let [least, most] = [0, 0]; // After its end, an episode continues with reward 0.
  for (const [, , reward] of outcomes.flat(1)) [least, most] = [Math.min(least, reward), Math.max(most, reward)];
  const scale = most > least ? most - least : 1;
  const initial = new Float64Array(states + 1);
  initial.set(startOf(table.initial, states));
  return buildMdp({
    states: states + 1,
    actions,
    horizon,
    stationary: true,
    initial,
    units: { least, scale },
    row: (_, s, a) =>
      s === ended
        ? [[ended, 1]]
        : outcomes[s * actions + a]!.map(([p, next, , done]): Successor => [done ? ended : next, p]),
    reward(_, s, a) {
      const mean = s === ended ? 0 : meanReward(outcomes[s * actions + a]!, `P[${s}][${a}]`);
      // Rounding must not take a mean of rewards at the limits out of [0,1].
      return Math.min(1, Math.max(0, (mean - least) / scale));
    },
  });
}

/** The mean reward; probabilities are rescaled if their sum is off by rounding, as in `buildMdp`. */
function meanReward(outcomes: readonly Outcome[], name: string): number {
  let [sum, total] = [0, 0];
  for (const [p, , reward] of outcomes) [sum, total] = [sum + p * reward, total + p];
  return sum / checkSum(total, `The probabilities of ${name} sum`);
}

/** All outcomes, by state and action. An error names the wrong entry. */
function checkTable({ P }: GymnasiumTable, horizon: number) {
  checkObject(Array.isArray(P) ? { ...P } : P, "P");
  const states = Object.keys(P).length;
  if (states === 0) throw new ArgumentError("P has no states.");
  const of = (list: object, i: number, name: string): unknown => {
    if (Object.hasOwn(list, i)) return (list as Record<number, unknown>)[i];
    throw new ArgumentError(`${name}[${i}] is missing: states and actions are numbered from 0.`);
  };
  const perState = (s: number): object => {
    const found = of(P, s, "P");
    return checkObject(Array.isArray(found) ? { ...found } : found, `P[${s}]`);
  };
  const actions = Object.keys(perState(0)).length;
  if (actions === 0) throw new ArgumentError("P[0] has no actions.");
  checkSizes({ horizon, states: states + 1, actions });
  const outcomes: (readonly Outcome[])[] = [];
  for (let s = 0; s < states; s++) {
    const ofState = perState(s);
    const count = Object.keys(ofState).length;
    if (count !== actions) throw new ArgumentError(`P[${s}] has ${count} actions, but P[0] has ${actions}.`);
    for (let a = 0; a < actions; a++) {
      const name = `P[${s}][${a}]`;
      const list = checkList(of(ofState, a, `P[${s}]`), name);
      outcomes.push(list.map((entry, i) => checkOutcome(entry, states, `${name}[${i}]`)));
    }
  }
  return { outcomes, states, actions };
}

function checkOutcome(entry: unknown, states: number, name: string): Outcome {
  const [p, next, reward, done] = checkList(entry, `${name} ([probability, next state, reward, terminated])`, 4);
  // numpy's booleans may be 0 or 1, depending on how the table was written as JSON (docs/exploration.md has a snippet).
  if (![true, false, 0, 1].includes(done as boolean)) throw new ArgumentError(`${name}[3] must be true or false.`);
  return [
    checkNumber(p, `${name}[0]`, 0, 1.001),
    checkCount(next, `${name}[1]`, 0, states - 1),
    checkNumber(reward, `${name}[2]`, -mostReward, mostReward),
    Boolean(done),
  ];
}

function startOf(initial: unknown, states: number): Float64Array {
  if (!Array.isArray(initial)) return startIn(checkCount(initial, "initial", 0, states - 1), states);
  return numbers(initial, "initial", states);
}

const tables = { frozenLake: frozenLakeTable, cliffWalking: cliffWalkingTable } as unknown as Record<
  "frozenLake" | "cliffWalking",
  GymnasiumTable
>;

/** FrozenLake-v1, 4x4, slippery. */
export const frozenLake = (options?: { horizon?: number }) => gymnasium(tables.frozenLake, options);

/** CliffWalking-v1. */
export const cliffWalking = (options?: { horizon?: number }) => gymnasium(tables.cliffWalking, options);
