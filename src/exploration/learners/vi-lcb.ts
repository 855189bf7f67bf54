/** A baseline learned from offline data: pessimistic value iteration, and reading the data set. */
import { shown } from "../../checks.ts";
import { ArgumentError } from "../../errors.ts";
import { Counts } from "../bounds/counts.ts";
import { type Mdp, rowOf, type Sizes } from "../mdp/mdp.ts";
import { uniformPolicy } from "../mdp/policy.ts";
import type { Problem } from "../mdp/problem.ts";
import { checkObject } from "../mdp/reading.ts";
import { boundsFor } from "./bounded-learner.ts";

/** A policy learned from counts, and a lower bound on its value. */
export interface OfflineBaseline {
  readonly baseline: Float64Array;
  readonly lower: number;
}

/**
 * VI-LCB (Rashidinejad et al. 2021, in finite-horizon form as Li et al. 2023 use it, arXiv 2306.06265), with the same bonus as the
 * online phase. Greedy in the lower bound; where nothing is known, it takes the action that is most frequent in the data.
 */
export function viLcb(problem: Omit<Problem, "baseline">, counts: Counts): OfflineBaseline {
  const { policy, lower } = boundsFor({ ...problem, baseline: uniformPolicy(problem) }, counts).pessimistic();
  const { actions } = problem;
  const baseline = new Float64Array(policy.length * actions);
  policy.forEach((action, at) => {
    baseline[at * actions + action] = 1;
  });
  return { baseline, lower };
}

/** `viLcb`, but throws an error that says what is missing if the learned policy's lower bound is below the threshold. */
export function safeBaseline(problem: Omit<Problem, "baseline">, counts: Counts): OfflineBaseline {
  const learned = viLcb(problem, counts);
  checkSupport(learned, problem);
  return learned;
}

/** Throws ArgumentError unless the lower bound reaches the threshold; `own` converts the values in its message. */
export function checkSupport(
  { lower }: OfflineBaseline,
  { threshold, delta, bonusScale }: Pick<Problem, "threshold" | "delta" | "bonusScale">,
  own = (value: number) => value,
): void {
  if (lower >= threshold) return;
  throw new ArgumentError(
    `The data cannot support the threshold ${own(threshold)}: the best policy that they vouch for has a value of at ` +
      `least ${own(lower)} (delta ${delta}, bonus scale ${bonusScale}). More data, or a lower threshold.`,
  );
}

/**
 * Reads a data set into counts. It is JSONL with one episode {"states": [H + 1], "actions": [H], "rewards": [H]} a line. If the MDP
 * is known, every episode must be possible in it, and rewards are in its own units. Throws ArgumentError that names the line.
 */
export function readEpisodes(text: string, mdp: Sizes | Mdp): Counts {
  const counts = new Counts(mdp);
  const { horizon, states, actions } = mdp;
  let episodes = 0;
  text.split("\n").forEach((line, i) => {
    if (line.trim() === "") return;
    const where = `line ${i + 1}`;
    const list = episodeOf(line, where);
    const whole = (limit: number) => (value: number) => Number.isInteger(value) && value >= 0 && value < limit;
    const visited = list("states", horizon + 1, whole(states));
    const taken = list("actions", horizon, whole(actions));
    const { least, scale } = ("units" in mdp && mdp.units) || { least: 0, scale: 1 };
    const rewards = list("rewards", horizon, (value) => value >= least && value <= least + scale).map((reward) =>
      Math.min(1, (reward - least) / scale),
    );
    if ("successors" in mdp) checkPossible(mdp, visited, taken, rewards, where);
    for (let h = 0; h < horizon; h++) {
      counts.addReward(counts.add(h, visited[h]!, taken[h]!, visited[h + 1]!), rewards[h]!);
    }
    episodes++;
  });
  if (episodes === 0) throw new ArgumentError("There is no episode in it: each line is one.");
  return counts;
}

/** Reads one of the lists of a line. */
function episodeOf(line: string, where: string) {
  let parsed: unknown;
  try {
    parsed = JSON.parse(line);
  } catch (error) {
    throw new ArgumentError(`${where} is not JSON: ${(error as Error).message.replace(/\s+/g, " ")}`);
  }
  const episode = checkObject(parsed, where);
  return (key: "states" | "actions" | "rewards", length: number, fits: (value: number) => boolean): number[] => {
    const values = episode[key];
    if (!Array.isArray(values) || values.length !== length) {
      throw new ArgumentError(`${where}: "${key}" must be a list of ${length}, not ${shown(values)}.`);
    }
    values.forEach((value, h) => {
      if (typeof value !== "number" || !fits(value))
        throw new ArgumentError(`${where}: ${key}[${h}] is ${shown(value)}.`);
    });
    return values;
  };
}

/** Data that are impossible in this environment come from another one, and say nothing about this one. */
function checkPossible(
  mdp: Mdp,
  visited: readonly number[],
  taken: readonly number[],
  rewards: readonly number[],
  where: string,
): void {
  if (!(mdp.initial[visited[0]!]! > 0)) {
    throw new ArgumentError(`${where}: states[0] is ${visited[0]}, where no episode of this environment starts.`);
  }
  taken.forEach((action, h) => {
    const [state, next] = [visited[h]!, visited[h + 1]!];
    const row = rowOf(mdp, h, state, action);
    if (!mdp.successors.subarray(mdp.offsets[row]!, mdp.offsets[row + 1]!).includes(next)) {
      throw new ArgumentError(
        `${where}: states[${h + 1}] is ${next}, where action ${action} in state ${state} never leads in this environment.`,
      );
    }
    const mean = mdp.rewards[(h * mdp.states + state) * mdp.actions + action]!;
    if ((mean === 0 && rewards[h] !== 0) || (mean === 1 && rewards[h] !== 1)) {
      throw new ArgumentError(`${where}: rewards[${h}] is ${rewards[h]}, but here that action's is ${mean}.`);
    }
  });
}
