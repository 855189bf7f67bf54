/** Summaries of trials: regret, violations, final values. */

import type { Experiment } from "./experiment.ts";
import type { AlgorithmName } from "./learners/algorithms.ts";
import { toOwnUnits } from "./mdp/mdp.ts";
import type { TrialResult } from "./trial.ts";

/** The trials of each algorithm. */
export function byAlgorithm(trials: readonly TrialResult[]): Map<AlgorithmName, TrialResult[]> {
  const lists = new Map<AlgorithmName, TrialResult[]>();
  for (const trial of trials) lists.set(trial.algorithm, [...(lists.get(trial.algorithm) ?? []), trial]);
  return lists;
}

/** A violation is an episode whose executed policy has a true value below the threshold by more than rounding. */
export const violationTolerance = 1e-9;

/** Regrets and values are in the environment's own units. */
export interface AlgorithmSummary {
  readonly algorithm: AlgorithmName;
  readonly episodes: number;
  readonly seeds: number;
  readonly regretMean: number;
  readonly regretStd: number;
  readonly violations: number;
  readonly violatingSeeds: number;
  /** Mean over seeds of the first episode (from 1) with a policy better than the baseline; null if a seed has none. */
  readonly firstImprovedEpisode: number | null;
  /** Mean value of the last episode's policy. */
  readonly finalValueMean: number;
  readonly secondsPerEpisode: number;
}

/** Mean, spread and episodes below the threshold, over the trials of one algorithm. */
export function summarise(trials: readonly TrialResult[], experiment: Experiment): AlgorithmSummary[] {
  const { mdp, optimalValue, baselineValue, problem, settings } = experiment;
  const scale = mdp.units?.scale ?? 1;
  return [...byAlgorithm(trials)].map(([algorithm, list]) => {
    const regrets = list.map(
      ({ stretches }) => scale * stretches.reduce((sum, { value, count }) => sum + count * (optimalValue - value), 0),
    );
    const below = list.map(({ stretches }) =>
      stretches.reduce(
        (sum, { value, count }) => sum + (value >= problem.threshold - violationTolerance ? 0 : count),
        0,
      ),
    );
    const improved = list.map(({ stretches }) => {
      const better = stretches.find(({ value }) => value > baselineValue + violationTolerance);
      return better ? better.episode + 1 : null;
    });
    const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
    const regretMean = mean(regrets);
    const variance = regrets.reduce((sum, r) => sum + (r - regretMean) ** 2, 0) / Math.max(1, regrets.length - 1);
    return {
      algorithm,
      episodes: settings.episodes,
      seeds: list.length,
      regretMean,
      regretStd: Math.sqrt(variance),
      violations: below.reduce((a, b) => a + b, 0),
      violatingSeeds: below.filter((count) => count > 0).length,
      firstImprovedEpisode: improved.every((k) => k !== null) ? mean(improved) : null,
      finalValueMean: toOwnUnits(mdp, mean(list.map(({ stretches }) => stretches.at(-1)!.value))),
      secondsPerEpisode: mean(list.map(({ seconds }) => seconds)) / settings.episodes,
    };
  });
}
