/** An experiment: one environment, one threshold, and a trial for each algorithm and seed. */
import { ArgumentError } from "../errors.ts";
import { type AlgorithmName, createLearner, restoreLearner } from "./algorithms.ts";
import { type CountsJson, readCounts } from "./counts.ts";
import { type MdpFile, mdpFromJson } from "./environments/file.ts";
import { cliffWalking, frozenLake, type GymnasiumTable } from "./environments/gymnasium.ts";
import { inventory, streaming } from "./environments/operations.ts";
import { chain, gridworld, randomMdp, riverSwim } from "./environments/synthetic.ts";
import type { Learner, LearnerJson } from "./learner.ts";
import type { Mdp } from "./mdp.ts";
import { optimalPlan, policyValue } from "./planning.ts";
import { always, baselineSteps, checkPolicy, type MixturePolicy, softmaxPolicy, uniformPolicy } from "./policy.ts";
import { type Problem, tableFromJson } from "./problem.ts";
import { Random } from "./random.ts";
import { playEpisode } from "./simulate.ts";
import { checkSupport, viLcb } from "./vi-lcb.ts";

interface Named {
  readonly create: (options: Record<string, number>) => Mdp;
  readonly options: readonly string[];
}
const environments: Readonly<Record<string, Named>> = {
  random: { create: randomMdp, options: ["states", "actions", "horizon", "seed"] },
  riverswim: { create: riverSwim, options: ["states", "horizon"] },
  gridworld: { create: gridworld, options: ["horizon", "slip"] },
  chain: { create: chain, options: ["states", "horizon", "slip"] },
  inventory: { create: inventory, options: ["horizon"] },
  streaming: { create: streaming, options: ["horizon", "levels"] },
  "frozen-lake": { create: frozenLake, options: ["horizon"] },
  "cliff-walking": { create: cliffWalking, options: ["horizon"] },
};
export const environmentNames = Object.keys(environments);

/** What decides the outcome of an experiment; two runs with equal settings and seeds are equal to the last bit. */
export interface ExperimentSettings {
  /** A name with options, such as "random" or "riverswim:states=4,horizon=8", or the JSON of an MDP. */
  readonly env: string | MdpFile | GymnasiumTable;
  /** "0.95xBASELINE", or a number. */
  readonly threshold: string;
  /** "softmax:5" (of the optimal action values), "uniform", or a table [step][state][action]. */
  readonly baseline: string | readonly (readonly (readonly number[])[])[];
  readonly delta: number;
  readonly bonusScale: number;
  readonly bounds: "paper" | "tight";
  /** What StepMix and EpsMix play where optimism is not safe; "certified" needs tight bounds. */
  readonly fallback: "baseline" | "certified";
  /** Whether the learner is told the mean rewards, or estimates them from draws. */
  readonly rewards: "known" | "estimated";
  readonly episodes: number;
  /** Episodes under one policy; for the linear programs, `lpBatch`. */
  readonly batch: number;
  readonly lpBatch: number;
  readonly allowUnsafeBaseline: boolean;
  /** Observations made beforehand: the baseline is learned from them, and every trial's counts start with them. */
  readonly offline?: CountsJson | null;
}

export interface Experiment {
  readonly settings: ExperimentSettings;
  readonly mdp: Mdp;
  readonly problem: Problem;
  readonly optimalValue: number;
  readonly baselineValue: number;
  /** Where the baseline was learned from data: the value that they vouch for. */
  readonly vouchedFor?: number;
}

export function setUp(settings: ExperimentSettings): Experiment {
  const mdp = environment(settings.env);
  const { horizon, states, actions, rewards, initial } = mdp;
  const plan = optimalPlan(mdp);
  const { delta, bonusScale, bounds, fallback } = settings;
  const known = settings.rewards === "known" ? { rewards } : {};
  const told = {
    horizon,
    states,
    actions,
    initial,
    ...known,
    delta,
    bonusScale,
    bounds,
    fallback,
  };
  const learned = settings.offline ? viLcb({ ...told, threshold: 0 }, readCounts(settings.offline, mdp)) : undefined;
  const baseline = learned?.baseline ?? baselineOf(settings.baseline, plan.actionValues, mdp);
  const baselineValue = policyValue(mdp, always(baseline, mdp));
  const threshold = thresholdOf(settings.threshold, baselineValue);
  if (!settings.allowUnsafeBaseline) {
    if (!(baselineValue >= threshold)) {
      throw new ArgumentError(
        `The baseline's value ${baselineValue} is ${threshold - baselineValue} below the threshold ${threshold}: every ` +
          "episode of it would be a violation (--allow-unsafe-baseline goes on all the same).",
      );
    }
    if (learned) checkSupport(learned, { ...told, threshold });
  }
  return {
    settings,
    mdp: settings.rewards === "known" ? mdp : { ...mdp, rewardDraws: "bernoulli" },
    problem: { ...told, baseline, baselineValue, threshold },
    optimalValue: plan.value,
    baselineValue,
    ...(learned ? { vouchedFor: learned.lower } : {}),
  };
}

/** The MDP of a name with options, or of a file's content. */
export function environment(env: ExperimentSettings["env"]): Mdp {
  if (typeof env !== "string") return mdpFromJson(env);
  const [name = "", list = ""] = env.split(":");
  const named = environments[name];
  if (!named)
    throw new ArgumentError(`There is no environment "${name}"; choose one of ${environmentNames.join(", ")}.`);
  const options = list
    .split(",")
    .filter(Boolean)
    .map((pair): [string, number] => {
      const [key = "", value = ""] = pair.split("=");
      if (value === "" || !Number.isFinite(Number(value))) {
        throw new ArgumentError(`"${pair}" is no option of an environment: write name=number.`);
      }
      if (!named.options.includes(key)) {
        throw new ArgumentError(`${name} has no option "${key}"; it has ${named.options.join(", ")}.`);
      }
      return [key, Number(value)];
    });
  return named.create(Object.fromEntries(options));
}

function baselineOf(spec: ExperimentSettings["baseline"], actionValues: Float64Array, mdp: Mdp): Float64Array {
  if (typeof spec !== "string") return checkPolicy(tableFromJson(spec, mdp, "baseline"), mdp);
  if (spec === "uniform") return uniformPolicy(mdp);
  const temperature = /^softmax:(\d+(?:\.\d+)?)$/.exec(spec)?.[1];
  if (temperature) return softmaxPolicy(actionValues, Number(temperature), mdp);
  throw new ArgumentError(`The baseline "${spec}" is none of softmax:NUMBER, uniform or a table.`);
}

function thresholdOf(spec: string, baselineValue: number): number {
  const share = /^(\d+(?:\.\d+)?)xBASELINE$/i.exec(spec)?.[1];
  const value = share === undefined ? Number(spec) : Number(share) * baselineValue;
  if (spec.trim() === "" || !Number.isFinite(value)) {
    throw new ArgumentError(`The threshold "${spec}" is neither a number nor like 0.95xBASELINE.`);
  }
  return value;
}

/** Consecutive episodes whose policies have the same value, kind and share of baseline steps. */
export interface Stretch {
  readonly episode: number;
  count: number;
  readonly value: number;
  readonly kind: MixturePolicy["kind"];
  /** Expected share of steps that follow the baseline. */
  readonly baselineShare: number;
}

export interface TrialJson {
  readonly algorithm: AlgorithmName;
  readonly seed: number;
  readonly learner: LearnerJson;
  readonly random: readonly number[];
  readonly seconds: number;
  readonly stretches: readonly Stretch[];
}

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

  private constructor(
    experiment: Experiment,
    learner: Learner,
    random: Random,
    from: Omit<TrialJson, "learner" | "random">,
  ) {
    this.#experiment = experiment;
    this.#learner = learner;
    this.#random = random;
    this.#scratch = new Float64Array((experiment.mdp.horizon + 1) * experiment.mdp.states);
    ({ algorithm: this.algorithm, seed: this.seed, seconds: this.seconds } = from);
    this.stretches = from.stretches.map((stretch) => ({ ...stretch }));
  }

  static async start(experiment: Experiment, algorithm: AlgorithmName, seed: number): Promise<Trial> {
    const { settings, problem } = experiment;
    const batch = algorithm === "optpess-lp" || algorithm === "dope" ? settings.lpBatch : settings.batch;
    const seen = settings.offline ? { counts: readCounts(settings.offline, problem) } : {};
    const learner = await createLearner(algorithm, problem, { seed: 2 * seed, batch, ...seen });
    return new Trial(experiment, learner, Random.seeded(2 * seed + 1), { algorithm, seed, seconds: 0, stretches: [] });
  }

  static async resume(experiment: Experiment, json: TrialJson): Promise<Trial> {
    return new Trial(experiment, await restoreLearner(json.learner), Random.fromState(json.random), json);
  }

  get episodes(): number {
    return this.#learner.episodes;
  }

  get done(): boolean {
    return this.episodes >= this.#experiment.settings.episodes;
  }

  /** Plays on for about so many milliseconds, or to the end. */
  run(milliseconds: number): void {
    const start = performance.now();
    while (!this.done) {
      for (let k = 0; k < 16 && !this.done; k++) {
        this.#note(this.#learner.policy());
        playEpisode(this.#experiment.mdp, this.#learner, this.#random);
      }
      if (performance.now() - start > milliseconds) break;
    }
    this.seconds += (performance.now() - start) / 1000;
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

  toJSON(): TrialJson {
    const { algorithm, seed, seconds, stretches } = this;
    return { algorithm, seed, learner: this.#learner.toJSON(), random: this.#random.state, seconds, stretches };
  }
}

/** The trials of each algorithm. */
export function byAlgorithm(trials: readonly TrialJson[]): Map<AlgorithmName, TrialJson[]> {
  const lists = new Map<AlgorithmName, TrialJson[]>();
  for (const trial of trials) lists.set(trial.algorithm, [...(lists.get(trial.algorithm) ?? []), trial]);
  return lists;
}

/** A violation is an episode whose executed policy has a true value below the threshold by more than rounding. */
export const violationTolerance = 1e-9;

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

export function summarise(trials: readonly TrialJson[], experiment: Experiment): AlgorithmSummary[] {
  const { optimalValue, baselineValue, problem, settings } = experiment;
  return [...byAlgorithm(trials)].map(([algorithm, list]) => {
    const regrets = list.map(({ stretches }) =>
      stretches.reduce((sum, { value, count }) => sum + count * (optimalValue - value), 0),
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
      finalValueMean: mean(list.map(({ stretches }) => stretches.at(-1)!.value)),
      secondsPerEpisode: mean(list.map(({ seconds }) => seconds)) / settings.episodes,
    };
  });
}
