import { ArgumentError } from "../../errors.ts";
import type { Sizes } from "../mdp/mdp.ts";
import type { Problem } from "../mdp/problem.ts";
import { Learner, type LearnerOptions } from "./learner.ts";
import type { Highs } from "./linear-program.ts";

/** An entry takes about 100 bytes, here and in the solver together. */
const mostEntries = 5_000_000;

/** V(pi_b) - threshold. Throws ArgumentError for a problem whose linear programs, with this many entries, cannot be set up. */
export function checkedGap({ horizon, states, actions, ...problem }: Problem, entries: number): number {
  if (entries > mostEntries) {
    throw new ArgumentError(
      `The linear program of ${horizon} steps, ${states} states and ${actions} actions would have about ${entries} entries; ` +
        `${mostEntries} are the limit.`,
    );
  }
  const { rewards, baselineValue, threshold } = problem;
  if (!rewards) throw new ArgumentError("The linear programs need known rewards.");
  if (baselineValue === undefined) throw new ArgumentError("The linear programs need the baseline's value.");
  const gap = baselineValue - threshold;
  if (gap > 0) return gap;
  throw new ArgumentError(`The baseline's value ${baselineValue} must be above the threshold ${threshold}.`);
}

/**
 * A learner that solves a linear program for each policy. Its papers have a cost and a budget; here the cost of a step is
 * 1 - r and the budget H - threshold, which is the same constraint.
 */
export abstract class LpLearner extends Learner {
  protected readonly solver: Highs;
  /** kappa = V(pi_b) - threshold. */
  protected readonly gap: number;

  /** `entries` is about how many the program's matrix has. */
  constructor(problem: Problem, solver: Highs, options: LearnerOptions, entries: (sizes: Sizes) => number) {
    super(problem, options);
    this.solver = solver;
    this.gap = checkedGap(this.problem, entries(problem));
  }

  /** log(2 S^2 A H n (n+1) / delta): for all transitions and, where the papers fix the number of episodes, all n at once. */
  protected logarithm(n: number): number {
    const { states, actions, horizon, delta } = this.problem;
    return Math.log((2 * states ** 2 * actions * horizon * n * (n + 1)) / delta);
  }

  /** p^_h(.|s,a) of a row; uniform where nothing was seen. */
  protected frequencies(row: number, into: Float64Array): Float64Array {
    const { visits, start, size, next, times } = this.counts;
    const n = visits[row]!;
    if (n === 0) return into.fill(1 / into.length);
    into.fill(0);
    for (let i = start[row]!; i < start[row]! + size[row]!; i++) into[next[i]!] = times[i]! / n;
    return into;
  }
}
