/** What all learners share: counts, the episode under way, batches, saving and going on. */
import { ArgumentError } from "../errors.ts";
import { Counts, type CountsJson, readCounts, writeCounts } from "./counts.ts";
import { drawAction, drawIndex, type MixturePolicy, type SwitchingPolicy } from "./policy.ts";
import { checkProblem, type Problem, type ProblemJson, problemFromJson, problemToJson } from "./problem.ts";
import { Random } from "./random.ts";

/** An episode as it was played: the policy drawn for it, and a [state, action, reward, next state] for each step. */
export interface Episode {
  /** For how many steps at its start the episode followed the baseline. */
  readonly baselineSteps: number;
  readonly steps: readonly (readonly [state: number, action: number, reward: number, next: number])[];
}

export interface LearnerOptions {
  readonly seed?: number;
  /** Episodes played under one policy before their observations are merged into the counts (1). */
  readonly batch?: number;
  /** Observations to start from, such as an offline data set's. */
  readonly counts?: Counts;
}

/** Everything a learner needs to go on where it stopped; also a state for `halfstep explore decide`. */
export interface LearnerJson extends ProblemJson, CountsJson {
  readonly algorithm: string;
  readonly episodes: number;
  readonly batch: number;
  readonly random: readonly number[];
  /** Episodes of the batch under way, the steps of the episode under way, and which component was drawn for it. */
  readonly pending: readonly Episode[];
  readonly steps: Episode["steps"];
  readonly component: number;
  /** What an algorithm keeps beside the counts. */
  readonly own?: unknown;
}

export abstract class Learner {
  abstract readonly algorithm: string;
  readonly problem: Problem;
  readonly counts: Counts;
  readonly batch: number;
  #random: Random;
  #episodes = 0;
  #policy: MixturePolicy | undefined;
  #component = 0;
  #steps: (readonly [number, number, number, number])[] = [];
  #pending: Episode[] = [];

  constructor(problem: Problem, { seed = 0, batch = 1, counts }: LearnerOptions = {}) {
    this.problem = checkProblem(problem);
    this.counts = counts ?? new Counts(problem);
    if (!Number.isSafeInteger(batch) || batch < 1) throw new ArgumentError(`batch is ${batch}; it must be at least 1.`);
    this.batch = batch;
    this.#random = Random.seeded(seed);
  }

  /** The policy for the counts as they are: a pure function of them. */
  protected abstract decide(): MixturePolicy;

  /** Called when an episode has been merged into the counts, with the rows that it changed. */
  protected merged(_rows: Int32Array, _episode: Episode): void {}

  /** Beside the counts, what `decide` depends on. */
  protected ownToJson(): unknown {
    return undefined;
  }

  protected restoreOwn(_own: unknown): void {}

  /** Episodes played so far. */
  get episodes(): number {
    return this.#episodes;
  }

  /** The policy of this episode, the same for all episodes of a batch. */
  policy(): MixturePolicy {
    this.#policy ??= this.decide();
    return this.#policy;
  }

  /** The action at a step; at step 0 a component of the mixture is drawn for the episode. */
  act(step: number, state: number): number {
    const { components } = this.policy();
    if (step === 0 && components.length > 1) {
      const weights = Float64Array.from(components, ({ weight }) => weight);
      this.#component = drawIndex(weights, 0, weights.length, this.#random.uniform());
    } else if (step === 0) this.#component = 0;
    return drawAction(this.#played, this.problem, step, state, this.#random.uniform());
  }

  get #played(): SwitchingPolicy {
    return this.policy().components[this.#component]!.policy;
  }

  observe(step: number, state: number, action: number, reward: number, next: number): void {
    if (step !== this.#steps.length) {
      throw new ArgumentError(`Step ${step} was observed, but step ${this.#steps.length} of the episode comes next.`);
    }
    this.#check(step, [state, action, reward, next]);
    this.#steps.push([state, action, reward, next]);
  }

  /** Ends the episode; with the last one of a batch, its observations enter the counts. */
  endEpisode(): void {
    const { first, switchAt } = this.#played;
    const baselineSteps = first === this.problem.baseline ? switchAt : 0;
    this.record({ baselineSteps, steps: this.#steps });
    this.#steps = [];
  }

  /** Adds an episode that was played elsewhere under this learner's present policy, such as on another machine. */
  record(episode: Episode): void {
    const { horizon } = this.problem;
    if (episode.steps.length !== horizon) {
      throw new ArgumentError(`An episode has ${episode.steps.length} steps, but the horizon is ${horizon}.`);
    }
    episode.steps.forEach((step, h) => {
      this.#check(h, step);
    });
    this.#pending.push(episode);
    this.#episodes++;
    if (this.#pending.length < this.batch) return;
    for (const pending of this.#pending) this.#merge(pending);
    this.#pending = [];
    this.#policy = undefined;
  }

  #merge(episode: Episode): void {
    const rows = Int32Array.from(episode.steps, ([state, action, reward, next], h) => {
      const row = this.counts.add(h, state, action, next);
      this.counts.addReward(row, reward);
      return row;
    });
    this.merged(rows, episode);
  }

  #check(h: number, [state, action, reward, next]: Episode["steps"][number]): void {
    const { states, actions } = this.problem;
    const inside = (value: number, limit: number) => Number.isInteger(value) && value >= 0 && value < limit;
    if (!inside(state, states) || !inside(next, states) || !inside(action, actions)) {
      throw new ArgumentError(
        `Step ${h}: state ${state}, action ${action}, next state ${next} are not all of this MDP.`,
      );
    }
    if (!(reward >= 0 && reward <= 1)) throw new ArgumentError(`Step ${h}: reward ${reward} is outside [0, 1].`);
  }

  toJSON(): LearnerJson {
    const own = this.ownToJson();
    return {
      ...problemToJson(this.problem),
      algorithm: this.algorithm,
      ...writeCounts(this.counts),
      episodes: this.#episodes,
      batch: this.batch,
      random: this.#random.state,
      pending: this.#pending,
      steps: this.#steps,
      component: this.#component,
      ...(own === undefined ? {} : { own }),
    };
  }

  /** Takes the rest of a saved learner over; problem and counts were given to the constructor. */
  protected restore(json: LearnerJson): this {
    if (json.algorithm !== this.algorithm) {
      throw new ArgumentError(`This is the state of ${json.algorithm}, not of ${this.algorithm}.`);
    }
    this.#episodes = json.episodes;
    this.#random = Random.fromState(json.random);
    this.#pending = [...json.pending];
    this.#steps = [...json.steps];
    this.#component = json.component;
    this.restoreOwn(json.own);
    return this;
  }
}

/** Problem, counts and options of a saved learner. */
export function restoredParts(json: ProblemJson & Pick<LearnerJson, "counts" | "rewardSums" | "batch">): {
  problem: Problem;
  options: LearnerOptions;
} {
  const problem = problemFromJson(json);
  return { problem, options: { batch: json.batch, counts: readCounts(json, problem) } };
}
