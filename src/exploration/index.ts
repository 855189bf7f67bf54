/**
 * halfstep/exploration: conservative exploration in tabular episodic MDPs. Depends on nothing of diffusion, and runs in
 * browsers too.
 */
export { ArgumentError, HalfstepError, NumericError } from "../errors.ts";
export { type AlgorithmName, algorithmNames, createLearner, restoreLearner } from "./algorithms.ts";
export type { Bounds } from "./bounds.ts";
export { BpiUcbvi } from "./bpi-ucbvi.ts";
export type { Candidate, CertifiedMixture } from "./certified.ts";
export { ConservativeUcbvi } from "./conservative-ucbvi.ts";
export { type CountEntry, Counts, type CountsJson, readCounts, writeCounts } from "./counts.ts";
export { type MdpFile, mdpFromJson } from "./environments/file.ts";
export { cliffWalking, frozenLake, type GymnasiumTable, gymnasium } from "./environments/gymnasium.ts";
export { inventory, streaming } from "./environments/operations.ts";
export { chain, gridworld, randomMdp, riverSwim } from "./environments/synthetic.ts";
export { EpsMix, type EpsMixDecision } from "./epsmix.ts";
export { type Experiment, type ExperimentSettings, setUp } from "./experiment.ts";
export { episodesToLeave } from "./forecast.ts";
export { type Episode, Learner, type LearnerJson, type LearnerOptions } from "./learner.ts";
export {
  buildMdp,
  fromOwnUnits,
  type Mdp,
  type MdpParts,
  type RewardUnits,
  type Sizes,
  type Successor,
  toOwnUnits,
} from "./mdp.ts";
export { PaperBounds } from "./paper-bounds.ts";
export { type OptimalPlan, occupancy, optimalPlan, policyValue, policyValues } from "./planning.ts";
export { always, type MixturePolicy, type Rest, type SwitchingPolicy, softmaxPolicy, uniformPolicy } from "./policy.ts";
export { type Problem, type ProblemJson, problemFromJson, problemToJson } from "./problem.ts";
export { Random } from "./random.ts";
export { playEpisode } from "./simulate.ts";
export { StepMix, type StepMixDecision } from "./stepmix.ts";
export { type AlgorithmSummary, summarise } from "./summary.ts";
export { TightBounds } from "./tight-bounds.ts";
export { Trial, type TrialJson } from "./trial.ts";
export { type OfflineBaseline, readEpisodes, safeBaseline, viLcb } from "./vi-lcb.ts";
