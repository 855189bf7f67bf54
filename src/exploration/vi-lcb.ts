/** A baseline from offline data: pessimistic value iteration, and the data set that it reads. */
import { ArgumentError } from "../errors.ts";
import { boundsFor } from "./bounded-learner.ts";
import { Counts } from "./counts.ts";
import type { Sizes } from "./mdp.ts";
import { uniformPolicy } from "./policy.ts";
import type { Problem } from "./problem.ts";

/** A policy learned from counts, and a lower bound on its value. */
export interface OfflineBaseline {
  readonly baseline: Float64Array;
  readonly lower: number;
}

/**
 * VI-LCB (Rashidinejad et al. 2021, in finite-horizon form as Li et al. 2023 use it, arXiv 2306.06265), with the same bonus as the
 * online phase: greedy in the lower bound; where nothing is known, what the data did most often.
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

/** `viLcb`, or an error that says what is missing if the data cannot vouch for the threshold. */
export function safeBaseline(problem: Omit<Problem, "baseline">, counts: Counts): OfflineBaseline {
  const learned = viLcb(problem, counts);
  checkSupport(learned, problem);
  return learned;
}

/** An error unless the data vouch for the threshold. */
export function checkSupport(
  { lower }: OfflineBaseline,
  { threshold, delta, bonusScale }: Pick<Problem, "threshold" | "delta" | "bonusScale">,
): void {
  if (lower >= threshold) return;
  throw new ArgumentError(
    `The data cannot support the threshold ${threshold}: the best policy that they vouch for has a value of at ` +
      `least ${lower} (delta ${delta}, bonus scale ${bonusScale}). More data, or a lower threshold.`,
  );
}

/** Counts of a data set: JSONL, one episode {"states": [H + 1], "actions": [H], "rewards": [H]} a line. */
export function readEpisodes(text: string, sizes: Sizes): Counts {
  const counts = new Counts(sizes);
  const { horizon, states, actions } = sizes;
  text.split("\n").forEach((line, i) => {
    if (line.trim() === "") return;
    const where = `line ${i + 1}`;
    let episode: { states?: unknown; actions?: unknown; rewards?: unknown };
    try {
      episode = JSON.parse(line);
    } catch (error) {
      throw new ArgumentError(`${where} is not JSON: ${(error as Error).message}`);
    }
    const list = (
      key: "states" | "actions" | "rewards",
      length: number,
      fits: (value: number) => boolean,
    ): number[] => {
      const values = episode[key];
      if (!Array.isArray(values) || values.length !== length) {
        throw new ArgumentError(`${where}: "${key}" must be a list of ${length}.`);
      }
      values.forEach((value, h) => {
        if (typeof value !== "number" || !fits(value)) throw new ArgumentError(`${where}: ${key}[${h}] is ${value}.`);
      });
      return values;
    };
    const whole = (limit: number) => (value: number) => Number.isInteger(value) && value >= 0 && value < limit;
    const visited = list("states", horizon + 1, whole(states));
    const taken = list("actions", horizon, whole(actions));
    const rewards = list("rewards", horizon, (value) => value >= 0 && value <= 1);
    for (let h = 0; h < horizon; h++) {
      counts.addReward(counts.add(h, visited[h]!, taken[h]!, visited[h + 1]!), rewards[h]!);
    }
  });
  return counts;
}
