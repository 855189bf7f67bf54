/** One algorithm with one seed: runs its episodes, and can be stopped and resumed. */
import { oneOf, shown } from "../checks.ts";
import { ArgumentError } from "../errors.ts";
import { readCounts } from "./bounds/counts.ts";
import type { Experiment, ExperimentSettings } from "./experiment.ts";
import { type AlgorithmName, algorithmNames, createLearner, restoreLearner } from "./learners/algorithms.ts";
import type { Learner, LearnerJson } from "./learners/learner.ts";
import { policyValue } from "./mdp/planning.ts";
import { baselineSteps, type MixturePolicy } from "./mdp/policy.ts";
import { checkProblem, difference, problemFromJson } from "./mdp/problem.ts";
import { Random } from "./mdp/random.ts";
import { checkCount, checkList, checkNumber, checkObject } from "./mdp/reading.ts";
import { playEpisode } from "./simulate.ts";

/** Consecutive episodes whose policies have the same value, kind and share of baseline steps. */
export interface Stretch {
  readonly episode: number;
  count: number;
  readonly value: number;
  readonly kind: MixturePolicy["kind"];
  /** Expected share of steps that follow the baseline. */
  readonly baselineShare: number;
}

/** A trial as it is saved between two parts of a run. */
export interface TrialJson {
  readonly algorithm: AlgorithmName;
  readonly seed: number;
  readonly learner: LearnerJson;
  readonly random: readonly number[];
  readonly seconds: number;
  readonly stretches: readonly Stretch[];
}

/** The result of a finished trial. */
export type TrialResult = Omit<TrialJson, "learner" | "random">;

/** One algorithm, one seed. */
export class Trial {
  readonly algorithm: AlgorithmName;
  readonly seed: number;
  readonly stretches: Stretch[];
  seconds: number;
  readonly #experiment: Experiment;
  readonly #learner: Learner;
  readonly #random: Random;
  readonly #scratch: Float64Array;

  private constructor(experiment: Experiment, learner: Learner, random: Random, from: TrialResult) {
    this.#experiment = experiment;
    this.#learner = learner;
    this.#random = random;
    this.#scratch = new Float64Array((experiment.mdp.horizon + 1) * experiment.mdp.states);
    ({ algorithm: this.algorithm, seed: this.seed, seconds: this.seconds } = from);
    this.stretches = from.stretches.map((stretch) => ({ ...stretch }));
  }

  /** A new trial of an algorithm in an experiment. */
  static async start(experiment: Experiment, algorithm: AlgorithmName, seed: number): Promise<Trial> {
    const { settings, problem } = experiment;
    const batch = batchOf(algorithm, settings);
    const sumsNeeded = problem.rewards === undefined;
    const seen = settings.offline ? { counts: readCounts(settings.offline, problem, { sumsNeeded }) } : {};
    const learner = await createLearner(algorithm, problem, { seed: 2 * seed, batch, ...seen });
    return new Trial(experiment, learner, Random.seeded(2 * seed + 1), { algorithm, seed, seconds: 0, stretches: [] });
  }

  /**
   * Resumes a saved trial, with the same results to the last bit. A state that this experiment cannot have saved is
   * refused.
   */
  static async resume(experiment: Experiment, saved: TrialJson): Promise<Trial> {
    const trial = checkTrial(saved, experiment);
    return new Trial(experiment, await restoreLearner(trial.learner), Random.fromState(trial.random), trial);
  }

  get episodes(): number {
    return this.#learner.episodes;
  }

  get done(): boolean {
    return this.episodes >= this.#experiment.settings.episodes;
  }

  /** Plays for about this many milliseconds, or to the end. */
  run(milliseconds: number): void {
    const start = performance.now();
    // An episode can take seconds, so the caller can report progress or stop after each.
    while (!this.done) {
      this.step(1);
      if (performance.now() - start > milliseconds) break;
    }
    this.seconds += (performance.now() - start) / 1000;
  }

  /** Plays this many episodes, or to the end. */
  step(episodes: number): void {
    for (let k = 0; k < episodes && !this.done; k++) {
      this.#note(this.#learner.policy());
      playEpisode(this.#experiment.mdp, this.#learner, this.#random);
    }
  }

  #note(policy: MixturePolicy): void {
    const { mdp } = this.#experiment;
    const value = policyValue(mdp, policy, this.#scratch);
    let steps = 0;
    for (const { weight, policy: part } of policy.components)
      steps += weight * baselineSteps(part, this.#learner.problem);
    const baselineShare = steps / mdp.horizon;
    const last = this.stretches.at(-1);
    if (last && last.value === value && last.kind === policy.kind && last.baselineShare === baselineShare) last.count++;
    else this.stretches.push({ episode: this.episodes, count: 1, value, kind: policy.kind, baselineShare });
  }

  /** The state from which a later run resumes. */
  toJSON(): TrialJson {
    const { algorithm, seed, seconds, stretches } = this;
    return { algorithm, seed, learner: this.#learner.toJSON(), random: this.#random.state, seconds, stretches };
  }
}

const batchOf = (algorithm: AlgorithmName, { batch, lpBatch }: ExperimentSettings) =>
  algorithm === "optpess-lp" || algorithm === "dope" ? lpBatch : batch;

/** Checks a saved trial against the experiment; the learner checks its own part when it resumes. */
export function checkTrial(saved: unknown, experiment: Experiment): TrialJson {
  const trial = checkObject(saved, "The trial");
  oneOf(algorithmNames)(trial["algorithm"], "algorithm");
  const algorithm = trial["algorithm"] as AlgorithmName;
  const seed = checkCount(trial["seed"], "seed", 0, Number.MAX_SAFE_INTEGER);
  const seconds = checkNumber(trial["seconds"], "seconds", 0);
  const learner = checkObject(trial["learner"], "learner") as unknown as LearnerJson;
  if (learner.algorithm !== algorithm) throw new ArgumentError(`learner is of ${shown(learner.algorithm)}.`);
  const batch = batchOf(algorithm, experiment.settings);
  if (learner.batch !== batch) throw new ArgumentError(`learner's batch is ${shown(learner.batch)}, not ${batch}.`);
  checkSameProblem(learner, experiment);
  const { settings, mdp } = experiment;
  const episodes = checkCount(learner.episodes, "learner.episodes", 0, settings.episodes);
  const random = checkList(trial["random"], "random", 4) as readonly number[];
  return {
    algorithm,
    seed,
    learner,
    random,
    seconds,
    stretches: checkStretches(trial["stretches"], episodes, mdp.horizon),
  };
}

/** The saved learner decides by its own problem, so threshold, rewards and the rest must be the experiment's. */
function checkSameProblem(learner: LearnerJson, { problem }: Experiment): void {
  const key = difference(problemFromJson(learner), checkProblem(problem));
  if (key !== undefined) throw new ArgumentError(`learner.${key} is not this experiment's.`);
}

/** Stretches follow one another from the first episode to the last one played. */
function checkStretches(saved: unknown, episodes: number, horizon: number): Stretch[] {
  let next = 0;
  const stretches = checkList(saved, "stretches").map((entry, i): Stretch => {
    const name = `stretches[${i}]`;
    const { episode, count, value, kind, baselineShare } = checkObject(entry, name);
    oneOf(["optimistic", "mixture", "baseline", "custom"])(kind, `${name}.kind`);
    const stretch = {
      episode: checkCount(episode, `${name}.episode`, next, next),
      count: checkCount(count, `${name}.count`, 1, episodes),
      value: checkNumber(value, `${name}.value`, -1e-9, horizon * (1 + 1e-9)),
      kind: kind as Stretch["kind"],
      baselineShare: checkNumber(baselineShare, `${name}.baselineShare`, 0, 1 + 1e-9),
    };
    next += stretch.count;
    return stretch;
  });
  if (next !== episodes)
    throw new ArgumentError(`stretches are of ${next} episodes, but learner.episodes is ${episodes}.`);
  return stretches;
}
