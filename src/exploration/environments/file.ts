/** An MDP as JSON: our own layout, or a Gymnasium table. */
import { ArgumentError } from "../../errors.ts";
import { buildMdp, type Mdp, type Successor } from "../mdp.ts";
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

/** Reads either layout; `horizon` overrides that of the file. */
export function mdpFromJson(file: MdpFile | GymnasiumTable, options: { horizon?: number } = {}): Mdp {
  if (typeof file !== "object" || file === null) throw new ArgumentError("An environment is a JSON object.");
  if ("P" in file) return gymnasium(file, options);
  const { states, actions, stationary = false, transitions, rewards } = file;
  if (!Array.isArray(transitions) || !Array.isArray(rewards) || !Array.isArray(file.initial)) {
    throw new ArgumentError("An environment needs transitions, rewards and initial, each a list.");
  }
  const row = depth(transitions) === 2 ? sparseRows(transitions as number[][], stationary) : denseRows(file);
  return buildMdp({
    horizon: options.horizon ?? file.horizon,
    states,
    actions,
    stationary,
    initial: file.initial,
    ...(file.rewardDraws ? { rewardDraws: file.rewardDraws } : {}),
    row,
    reward: (h, s, a) => Number(at(rewards, "rewards", depth(rewards) === 2 ? [s, a] : [h, s, a])),
  });
}

/** How deeply the lists are nested. */
function depth(value: unknown): number {
  return Array.isArray(value) ? 1 + depth(value[0]) : 0;
}

function at(value: unknown, name: string, path: number[]): unknown {
  const found = path.reduce((here: unknown, i) => (Array.isArray(here) ? here[i] : undefined), value);
  if (found === undefined) throw new ArgumentError(`${name}[${path.join("][")}] is missing.`);
  return found;
}

function denseRows({ transitions, stationary }: MdpFile) {
  return (h: number, s: number, a: number): Successor[] => {
    const row = at(transitions, "transitions", stationary ? [s, a] : [h, s, a]);
    if (!Array.isArray(row)) throw new ArgumentError(`transitions[${h}][${s}][${a}] is not a list of probabilities.`);
    return row.map((p, next): Successor => [next, p]);
  };
}

function sparseRows(list: number[][], stationary: boolean) {
  const rows = new Map<string, Successor[]>();
  list.forEach((entry, i) => {
    if (entry.length !== (stationary ? 4 : 5)) {
      throw new ArgumentError(`transitions[${i}] has ${entry.length} numbers, but needs ${stationary ? 4 : 5}.`);
    }
    const key = entry.slice(0, -2).join();
    rows.set(key, [...(rows.get(key) ?? []), [entry.at(-2)!, entry.at(-1)!]]);
  });
  return (h: number, s: number, a: number) => rows.get((stationary ? [s, a] : [h, s, a]).join()) ?? [];
}
