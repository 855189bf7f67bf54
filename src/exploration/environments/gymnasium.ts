/** Tabular Gymnasium environments, from their transition table `env.unwrapped.P` written as JSON. */
import { ArgumentError } from "../../errors.ts";
import { buildMdp, type Mdp, type Successor } from "../mdp.ts";
import cliffWalkingTable from "./cliff-walking.json" with { type: "json" };
import frozenLakeTable from "./frozen-lake-4x4.json" with { type: "json" };

/** P[state][action] is a list of [probability, next state, reward, terminated], as Gymnasium's toy-text environments have. */
export interface GymnasiumTable {
  readonly P: Readonly<
    Record<string, Readonly<Record<string, readonly (readonly [number, number, number, boolean])[]>>>
  >;
  /** The start state, or the probabilities of all states. */
  readonly initial: number | readonly number[];
  readonly horizon?: number;
}

/**
 * The MDP of a table over `horizon` steps. Rewards are moved to [0,1] with the same shift and scale for every step, ended
 * episodes included, so that policies keep their order: a return V here is (V_gymnasium - H * least) / (most - least).
 * What follows a terminated transition is one extra state without further reward.
 */
export function gymnasium(table: GymnasiumTable, { horizon = table.horizon }: { horizon?: number } = {}): Mdp {
  if (horizon === undefined)
    throw new ArgumentError("A Gymnasium table needs a horizon: write it into the file or give it.");
  const names = Object.keys(table.P);
  const states = names.length;
  const actions = Object.keys(table.P["0"] ?? {}).length;
  const ended = states;
  const outcomes = (s: number, a: number) => {
    const list = table.P[s]?.[a];
    if (!Array.isArray(list))
      throw new ArgumentError(`P[${s}][${a}] is missing: states and actions are numbered from 0.`);
    return list as readonly (readonly [number, number, number, boolean])[];
  };
  let [least, most] = [0, 0]; // An ended episode goes on with reward 0.
  for (let s = 0; s < states; s++) {
    for (let a = 0; a < actions; a++) {
      for (const [, , reward] of outcomes(s, a)) [least, most] = [Math.min(least, reward), Math.max(most, reward)];
    }
  }
  const scale = most > least ? most - least : 1;
  const initial = new Float64Array(states + 1);
  if (typeof table.initial === "number") initial[table.initial] = 1;
  else initial.set(table.initial);
  return buildMdp({
    states: states + 1,
    actions,
    horizon,
    stationary: true,
    initial,
    row: (_, s, a) =>
      s === ended ? [[ended, 1]] : outcomes(s, a).map(([p, next, , done]): Successor => [done ? ended : next, p]),
    reward(_, s, a) {
      const mean = s === ended ? 0 : outcomes(s, a).reduce((sum, [p, , reward]) => sum + p * reward, 0);
      // Rounding of a mean of rewards at the limits must not leave [0,1].
      return Math.min(1, Math.max(0, (mean - least) / scale));
    },
  });
}

const tables = { frozenLake: frozenLakeTable, cliffWalking: cliffWalkingTable } as unknown as Record<
  "frozenLake" | "cliffWalking",
  GymnasiumTable
>;

/** FrozenLake-v1, 4x4, slippery. */
export const frozenLake = (options?: { horizon?: number }) => gymnasium(tables.frozenLake, options);

/** CliffWalking-v1. */
export const cliffWalking = (options?: { horizon?: number }) => gymnasium(tables.cliffWalking, options);
