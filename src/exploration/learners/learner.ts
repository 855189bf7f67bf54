/** What all learners share: counts, the current episode, batches, saving and resuming. */
import { shown } from "../../checks.ts";
import { ArgumentError } from "../../errors.ts";
import { Counts, type CountsJson, readCounts, writeCounts } from "../bounds/counts.ts";
import type { Episode } from "../mdp/episode.ts";
import {
  baselineSteps,
  checkMixture,
  drawAction,
  drawIndex,
  type MixturePolicy,
  probabilityOf,
  type SwitchingPolicy,
} from "../mdp/policy.ts";
import { checkProblem, type Problem, type ProblemJson, problemFromJson, problemToJson } from "../mdp/problem.ts";
import { Random } from "../mdp/random.ts";
import { checkCount, checkList, checkObject } from "../mdp/reading.ts";

/** Settings that all learners share. */
export interface LearnerOptions {
  readonly seed?: number;
  /** Episodes played under one policy before their observations are merged into the counts (1). */
  readonly batch?: number;
  /** Observations to start from, such as an offline data set's. They are copied, so each learner has its own. */
  readonly counts?: Counts;
}

/** Everything a learner needs to resume where it stopped. `halfstep explore decide` reads it too. */
export interface LearnerJson extends ProblemJson, CountsJson {
  readonly algorithm: string;
  readonly episodes: number;
  readonly batch: number;
  readonly random: readonly number[];
  /** Episodes of the current batch, steps of the current episode, and the component drawn for it. */
  readonly pending: readonly Episode[];
  readonly steps: Episode["steps"];
  readonly component: number;
  /** The state of an algorithm apart from the counts. */
  readonly own?: unknown;
}

/** The episodes of a batch stay in memory until it is full. */
const mostBatch = 1e6;

/** The base of all algorithms: `act` chooses an action, `observe` takes its outcome, `endEpisode` ends the episode. */
export abstract class Learner {
  abstract readonly algorithm: string;
  readonly problem: Problem;
  /** The observations of this learner. Only the learner may add to them, since it caches bounds row by row. */
  readonly counts: Counts;
  readonly batch: number;
  #random: Random;
  #episodes = 0;
  #policy: MixturePolicy | undefined;
  #component = 0;
  #steps: (readonly [number, number, number, number])[] = [];
  #pending: Episode[] = [];
  /** The last answer of `act`; undefined after resuming from a saved state. */
  #acted: { readonly step: number; readonly state: number; readonly action: number } | undefined;

  constructor(problem: Problem, { seed = 0, batch = 1, counts }: LearnerOptions = {}) {
    this.problem = checkProblem(problem);
    const { horizon, states, actions } = counts ?? problem;
    if (horizon !== problem.horizon || states !== problem.states || actions !== problem.actions) {
      throw new ArgumentError(`The counts are of ${horizon} steps, ${states} states and ${actions} actions.`);
    }
    // If two learners shared counts, neither would notice what the other adds, and their cached bounds would be out of date.
    this.counts = counts?.copy() ?? new Counts(problem);
    this.batch = checkCount(batch, "batch", 1, mostBatch);
    this.#random = Random.seeded(seed);
  }

  /** The policy for the current counts: a pure function of them. */
  protected abstract decide(): MixturePolicy;

  /** Is called when an episode has been merged into the counts, with the rows that it changed. */
  protected merged(_rows: Int32Array, _episode: Episode): void {}

  /** The state that `decide` depends on, apart from the counts. */
  protected ownToJson(): unknown {
    return undefined;
  }

  protected restoreOwn(_own: unknown): void {}

  /** Episodes played so far. */
  get episodes(): number {
    return this.#episodes;
  }

  /** Number of episodes whose observations are in the counts. `decide` may depend on it, also in the middle of a batch. */
  protected get mergedEpisodes(): number {
    return this.#episodes - this.#pending.length;
  }

  /** The policy of this episode, the same for all episodes of a batch. */
  policy(): MixturePolicy {
    this.#policy ??= checkMixture(this.decide(), this.problem);
    return this.#policy;
  }

  /** The action at a step. At step 0 a component of the mixture is drawn for the episode. */
  act(step: number, state: number): number {
    this.#comesNext(step, state);
    // The same question gets the same answer: drawing again until the caller likes the action would change the probabilities.
    const before = this.#acted;
    if (before?.step === step && before.state === state) return before.action;
    const { components } = this.policy();
    if (step === 0 && before?.step === 0) {
      // Another start state, but the component of this episode stays.
    } else if (step === 0 && components.length > 1) {
      const weights = Float64Array.from(components, ({ weight }) => weight);
      this.#component = drawIndex(weights, 0, weights.length, this.#random.uniform());
    } else if (step === 0) this.#component = 0;
    const action = drawAction(this.#played, this.problem, step, state, this.#random.uniform());
    this.#acted = { step, state, action };
    return action;
  }

  get #played(): SwitchingPolicy {
    return this.policy().components[this.#component]!.policy;
  }

  /**
   * Adds the outcome of an action, which must be the one that `act` gave. An episode says something about a policy only if that
   * policy chose its actions, so episodes in which someone else chose must not be observed at all.
   */
  observe(step: number, state: number, action: number, reward: number, next: number): void {
    this.#comesNext(step, state);
    checkStep([state, action, reward, next], step, this.problem);
    const acted = this.#acted;
    const given = acted?.step === step && acted.state === state;
    const possible = given
      ? acted.action === action
      : probabilityOf(this.#played, this.problem, step, state, action) > 0;
    if (!possible) {
      throw new ArgumentError(
        `Step ${step}: action ${action} in state ${state} is not what act() gave${given ? `, which is ${acted.action}` : ""}: ` +
          "episodes in which another chose say nothing of the policy that was drawn.",
      );
    }
    this.#steps.push([state, action, reward, next]);
    this.#acted = undefined;
  }

  #comesNext(step: number, state: number): void {
    if (step !== this.#steps.length) {
      throw new ArgumentError(`Step ${shown(step)} came, but step ${this.#steps.length} of the episode comes next.`);
    }
    if (step >= this.problem.horizon)
      throw new ArgumentError(`Step ${step} came; the horizon is ${step}: end the episode.`);
    checkState(state, step, this.#steps.at(-1)?.[3], this.problem);
  }

  /** Ends the episode. When the last one of a batch ends, the batch is merged into the counts. */
  endEpisode(): void {
    const { horizon } = this.problem;
    if (this.#steps.length !== horizon) {
      throw new ArgumentError(`The episode has ${this.#steps.length} steps, but the horizon is ${horizon}.`);
    }
    this.#add({ baselineSteps: baselineSteps(this.#played, this.problem), steps: this.#steps });
    this.#steps = [];
    this.#acted = undefined;
  }

  /** Adds an episode that was played under this learner's present policy somewhere else, such as on another machine. */
  record(episode: Episode): void {
    const checked = checkEpisode(episode, this.problem, "The episode");
    if ((this.#steps.length > 0 || this.#acted) && this.#pending.length + 1 >= this.batch) {
      throw new ArgumentError(
        "An episode is under way here, and this one would end the batch and with it the policy: end that one first.",
      );
    }
    const drawn = ({ policy }: MixturePolicy["components"][number]) =>
      baselineSteps(policy, this.problem) === checked.baselineSteps &&
      checked.steps.every(([state, action], h) => probabilityOf(policy, this.problem, h, state, action) > 0);
    if (!this.policy().components.some(drawn)) {
      throw new ArgumentError(
        `An episode with ${checked.baselineSteps} steps of the baseline and these actions was not played under the present ` +
          "policy; one of a batch that has ended comes too late.",
      );
    }
    this.#add(checked);
  }

  #add(episode: Episode): void {
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

  /** Everything that is needed to resume from here with the same results, to the last bit. */
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

  /** Restores the rest of a saved learner; the constructor has got the problem and the counts already. */
  protected restore(json: LearnerJson): this {
    if (json.algorithm !== this.algorithm) {
      throw new ArgumentError(
        `This is the state of ${typeof json.algorithm === "string" ? json.algorithm.slice(0, 60) : shown(json.algorithm)}, not of ${this.algorithm}.`,
      );
    }
    this.#random = Random.fromState(json.random);
    this.#pending = checkList(json.pending, "pending").map((episode, i) =>
      checkEpisode(episode, this.problem, `pending[${i}]`),
    );
    if (this.#pending.length >= this.batch) {
      throw new ArgumentError(
        `pending has ${this.#pending.length} episodes, but a batch of ${this.batch} ends before.`,
      );
    }
    this.#episodes = checkCount(json.episodes, "episodes", this.#pending.length, Number.MAX_SAFE_INTEGER);
    this.#steps = checkSteps(json.steps, this.problem, "steps");
    this.#component = checkCount(json.component, "component", 0, Number.MAX_SAFE_INTEGER);
    this.restoreOwn(json.own);
    if (this.#steps.length > 0) checkCount(json.component, "component", 0, this.policy().components.length - 1);
    return this;
  }
}

/**
 * Checks an episode from outside: it has `horizon` steps, all valid in this MDP, each starting in the state that the
 * one before led to.
 */
function checkEpisode(episode: unknown, problem: Problem, name: string): Episode {
  const { baselineSteps: begun, steps } = checkObject(episode, name);
  return {
    baselineSteps: checkCount(begun, `${name}'s baselineSteps`, 0, problem.horizon),
    steps: checkSteps(checkList(steps, `${name}'s steps`, problem.horizon), problem, `${name}'s steps`),
  };
}

type Step = Episode["steps"][number];

function checkSteps(steps: unknown, problem: Problem, name: string): Step[] {
  const checked: Step[] = [];
  for (const [h, entry] of checkList(steps, name).entries()) {
    checkCount(h, "A step", 0, problem.horizon - 1);
    const step = checkList(entry, `${name}[${h}]`, 4) as unknown as Step;
    checkState(step[0], h, checked.at(-1)?.[3], problem);
    checked.push(checkStep(step, h, problem));
  }
  return checked;
}

const inside = (value: unknown, count: number) =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) < count;

/** Checks a step's state. `before` is where the last step led; the state of the first step must be a possible start. */
function checkState(state: number, h: number, before: number | undefined, { states, initial }: Problem): void {
  if (!inside(state, states)) {
    throw new ArgumentError(
      `Step ${h}: state ${shown(state)} is not of this MDP, which has states 0 to ${states - 1}.`,
    );
  }
  if (h === 0 && !(initial[state]! > 0)) {
    throw new ArgumentError(`Step 0: state ${state}, but initial says that no episode starts there.`);
  }
  if (before !== undefined && before !== state) {
    throw new ArgumentError(`Step ${h}: state ${state}, but the step before led to state ${before}.`);
  }
}

function checkStep(step: Step, h: number, { states, actions }: Problem): Step {
  const [state, action, reward, next] = step;
  if (!inside(state, states) || !inside(next, states) || !inside(action, actions)) {
    throw new ArgumentError(
      `Step ${h}: state ${shown(state)}, action ${shown(action)}, next state ${shown(next)} are not all of this MDP.`,
    );
  }
  if (!(typeof reward === "number" && reward >= 0 && reward <= 1)) {
    throw new ArgumentError(`Step ${h}: reward ${shown(reward)} is no number in [0, 1].`);
  }
  return step;
}

/** Problem, counts and options of a saved learner. */
export function restoredParts(json: ProblemJson & Pick<LearnerJson, "counts" | "rewardSums" | "batch">): {
  problem: Problem;
  options: LearnerOptions;
} {
  const problem = problemFromJson(json);
  const counts = readCounts(json, problem, { sumsNeeded: problem.rewards === undefined });
  return { problem, options: { batch: json.batch, counts } };
}
