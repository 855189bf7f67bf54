/**
 * halfstep/exploration: conservative exploration in tabular episodic MDPs. Independent of diffusion models, and runs in
 * browsers too.
 * @module halfstep/exploration
 */
export { ArgumentError, HalfstepError, NumericError } from "../errors.ts";
export type { Bounds } from "./bounds/bounds.ts";
export { type CountEntry, Counts, type CountsJson, readCounts, writeCounts } from "./bounds/counts.ts";
export { PaperBounds } from "./bounds/paper-bounds.ts";
export { TightBounds } from "./bounds/tight-bounds.ts";
export { type Experiment, type ExperimentSettings, setUp } from "./experiment.ts";
export { type AlgorithmName, algorithmNames, createLearner, restoreLearner } from "./learners/algorithms.ts";
export { BpiUcbvi } from "./learners/bpi-ucbvi.ts";
export type { Candidate, CertifiedMixture } from "./learners/certified.ts";
export { ConservativeUcbvi } from "./learners/conservative-ucbvi.ts";
export { EpsMix, type EpsMixDecision } from "./learners/epsmix.ts";
export { Learner, type LearnerJson, type LearnerOptions } from "./learners/learner.ts";
export { StepMix, type StepMixDecision } from "./learners/stepmix.ts";
export { type OfflineBaseline, readEpisodes, safeBaseline, viLcb } from "./learners/vi-lcb.ts";
export { episodesToLeave } from "./leaving-baseline.ts";
export { type MdpFile, mdpFromJson } from "./mdp/environments/file.ts";
export {
  cliffWalking,
  frozenLake,
  type GymnasiumTable,
  gymnasium,
  type Outcome as GymnasiumOutcome,
} from "./mdp/environments/gymnasium.ts";
export { inventory, streaming } from "./mdp/environments/operations.ts";
export { chain, gridworld, randomMdp, riverSwim } from "./mdp/environments/synthetic.ts";
export type { Episode } from "./mdp/episode.ts";
export {
  buildMdp,
  fromOwnUnits,
  type Mdp,
  type MdpParts,
  type RewardUnits,
  type Sizes,
  type Successor,
  toOwnUnits,
} from "./mdp/mdp.ts";
export { type OptimalPlan, occupancy, optimalPlan, policyValue, policyValues } from "./mdp/planning.ts";
export {
  always,
  type MixturePolicy,
  type Rest,
  type SwitchingPolicy,
  softmaxPolicy,
  uniformPolicy,
} from "./mdp/policy.ts";
export { type Problem, type ProblemJson, problemFromJson, problemToJson } from "./mdp/problem.ts";
export { Random } from "./mdp/random.ts";
export { playEpisode } from "./simulate.ts";
export { type AlgorithmSummary, summarise } from "./summary.ts";
export { type Stretch as TrialStretch, Trial, type TrialJson, type TrialResult } from "./trial.ts";
