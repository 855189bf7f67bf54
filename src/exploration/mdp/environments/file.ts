/** An MDP as JSON: our own layout, or a Gymnasium table. */
import { oneOf } from "../../../checks.ts";
import { ArgumentError } from "../../../errors.ts";
import { buildMdp, checkSizes, type Mdp, numbers, type Successor } from "../mdp.ts";
import { checkCount, checkList, checkNumber, checkObject } from "../reading.ts";
import { type GymnasiumTable, gymnasium } from "./gymnasium.ts";

/**
 * Transitions are [h][s][a][next] or, if stationary, [s][a][next]; or a sparse list of [h, s, a, next, probability] or
 * [s, a, next, probability]. Rewards are [h][s][a] or [s][a].
 */
export interface MdpFile {
  readonly horizon: number;
  readonly states: number;
  readonly actions: number;
  readonly stationary?: boolean;
  readonly transitions: readonly unknown[];
  readonly rewards: readonly unknown[];
  readonly rewardDraws?: "mean" | "bernoulli";
  readonly initial: readonly number[];
}

/** Reads either layout; `horizon` overrides that of the file. An error names the wrong entry. */
export function mdpFromJson(file: MdpFile | GymnasiumTable, options: { horizon?: number } = {}): Mdp {
  checkObject(file, "An environment");
  if (Object.hasOwn(file, "P")) return gymnasium(file as GymnasiumTable, options);
  const { states, actions, stationary = false, transitions, rewards, rewardDraws, initial } = file as MdpFile;
  const sizes = { horizon: options.horizon ?? (file as MdpFile).horizon, states, actions };
  checkSizes(sizes);
  if (typeof stationary !== "boolean") throw new ArgumentError("stationary must be true or false.");
  if (rewardDraws !== undefined) oneOf(["mean", "bernoulli"])(rewardDraws, "rewardDraws");
  // Lists are read before tables are allocated, so that no table is much larger than the file justifies.
  const start = numbers(initial, "initial", states);
  checkList(rewards, "rewards");
  checkList(transitions, "transitions");
  const sparse = depth(transitions) === 2;
  if (!sparse)
    checkTable(transitions, "transitions", stationary ? [states, actions] : [sizes.horizon, states, actions]);
  const perState = depth(rewards) === 2;
  checkTable(rewards, "rewards", perState ? [states, actions] : [sizes.horizon, states, actions]);
  const rows = sparse ? sparseRows(transitions, sizes, stationary) : denseRows(transitions, states, stationary);
  return buildMdp({
    ...sizes,
    stationary,
    initial: start,
    ...(rewardDraws ? { rewardDraws } : {}),
    row: rows,
    reward(h, s, a) {
      const path = perState ? [s, a] : [h, s, a];
      return checkNumber(at(rewards, path), `rewards[${path.join("][")}]`);
    },
  });
}

/** How deeply lists are nested, up to `most`. */
function depth(value: unknown, most = 4): number {
  return most > 0 && Array.isArray(value) ? 1 + depth(value[0], most - 1) : 0;
}

const at = (value: unknown, path: readonly number[]): unknown =>
  path.reduce((here, i) => (here as readonly unknown[])[i], value);

/** Checks nested lists of these lengths. */
function checkTable(value: unknown, name: string, lengths: readonly number[]): void {
  const [length, ...rest] = lengths;
  const list = checkList(value, name, length);
  if (rest.length > 0) list.forEach((inner, i) => { checkTable(inner, `${name}[${i}]`, rest); }); // biome-ignore format: one row
}

function denseRows(transitions: readonly unknown[], states: number, stationary: boolean) {
  return (h: number, s: number, a: number): Successor[] => {
    const path = stationary ? [s, a] : [h, s, a];
    const row = checkList(at(transitions, path), `transitions[${path.join("][")}]`, states);
    return row.map((p, next): Successor => [next, p as number]);
  };
}

function sparseRows(
  list: readonly unknown[],
  { horizon, states, actions }: { horizon: number; states: number; actions: number },
  stationary: boolean,
) {
  const rows = new Map<number, Successor[]>();
  const names = stationary ? ["state", "action", "next state"] : ["step", "state", "action", "next state"];
  const counts = stationary ? [states, actions, states] : [horizon, states, actions, states];
  list.forEach((entry, i) => {
    const values = checkList(entry, `transitions[${i}]`, names.length + 1);
    const indices = counts.map((count, k) => checkCount(values[k], `transitions[${i}]'s ${names[k]}`, 0, count - 1));
    const [a, s, h = 0] = indices.slice(0, -1).reverse() as [number, number, number?];
    const row = (h * states + s) * actions + a;
    const successors = rows.get(row);
    const successor: Successor = [indices.at(-1)!, checkNumber(values.at(-1), `transitions[${i}]'s probability`)];
    if (successors) successors.push(successor);
    else rows.set(row, [successor]);
  });
  return (h: number, s: number, a: number) => rows.get(((stationary ? 0 : h) * states + s) * actions + a) ?? [];
}
