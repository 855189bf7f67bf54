import type { Sizes } from "../mdp/mdp.ts";
import { always, type MixturePolicy, pure } from "../mdp/policy.ts";
import type { Problem } from "../mdp/problem.ts";
import { type LearnerJson, type LearnerOptions, restoredParts } from "./learner.ts";
import { type Highs, LinearProgram, policyOfOccupancy } from "./linear-program.ts";
import { checkedGap, LpLearner } from "./lp-learner.ts";

/** The flow into each state comes from all rows of the step before. */
const entries = ({ horizon, states, actions }: Sizes) => horizon * actions * states ** 2;

/**
 * OptPess-LP (Liu et al. 2021, arXiv 2106.02684): optimistic rewards and a pessimistic constraint in the
 * empirical MDP. Bonuses as in the experiments that DOPE's authors published for it: b = sqrt(log / n), rewards
 * r + (SH + 4 S H^2 / kappa) b, in the constraint r - SH b.
 */
export class OptPessLp extends LpLearner {
  override readonly algorithm = "optpess-lp";

  protected override decide(): MixturePolicy {
    const { baseline, threshold } = this.problem;
    const { bonus, frequencies } = this.#model();
    // Until the baseline is known to be well above the threshold, there is no slack to explore with.
    const certain = this.#pessimisticBaseline(bonus, frequencies) >= threshold + this.gap / 2;
    const occupancy = certain ? this.program(bonus, frequencies).solve(this.solver) : undefined;
    if (!occupancy) return pure("baseline", always(baseline, this.problem));
    return pure("custom", always(policyOfOccupancy(occupancy, baseline, this.problem), this.problem));
  }

  constructor(problem: Problem, solver: Highs, options: LearnerOptions = {}) {
    super(problem, solver, options, entries);
  }

  /** Throws ArgumentError for a problem that it cannot run on. */
  static check(problem: Problem): void {
    checkedGap(problem, entries(problem));
  }

  #model(): { bonus: Float64Array; frequencies: Float64Array[] } {
    const { bonusScale, states } = this.problem;
    const bonus = Float64Array.from(this.counts.visits, (n) => {
      const seen = Math.max(1, n);
      return bonusScale * Math.sqrt(this.logarithm(seen) / seen);
    });
    return { bonus, frequencies: Array.from(bonus, (_, row) => this.frequencies(row, new Float64Array(states))) };
  }

  /**
   * Variables q_h(s,a): maximises the optimistic return over occupancy measures whose pessimistic return reaches the
   * threshold.
   */
  program(bonus: Float64Array, frequencies: readonly Float64Array[]): LinearProgram {
    const { horizon, states, actions, rewards, initial, threshold } = this.problem;
    const program = new LinearProgram();
    const optimism = states * horizon + (4 * states * horizon ** 2) / this.gap;
    bonus.forEach((b, row) => {
      program.variable(rewards![row]! + optimism * b);
    });
    const perStep = states * actions;
    for (let h = 0; h < horizon; h++) {
      for (let s = 0; s < states; s++) {
        const flow: [number, number][] = [];
        for (let a = 0; a < actions; a++) flow.push([h * perStep + s * actions + a, 1]);
        if (h > 0) {
          for (let row = (h - 1) * perStep; row < h * perStep; row++) flow.push([row, -frequencies[row]![s]!]);
        }
        const inflow = h === 0 ? initial[s]! : 0;
        program.row(flow, inflow, inflow);
      }
    }
    const safe = Array.from(bonus, (b, row) => [row, rewards![row]! - states * horizon * b] as const);
    program.row(safe, threshold, Infinity);
    return program;
  }

  #pessimisticBaseline(bonus: Float64Array, frequencies: readonly Float64Array[]): number {
    const { horizon, states, actions, rewards, baseline, initial } = this.problem;
    let values = new Float64Array(states);
    for (let h = horizon - 1; h >= 0; h--) {
      const here = new Float64Array(states);
      for (let row = h * states * actions; row < (h + 1) * states * actions; row++) {
        const next = frequencies[row]!.reduce((sum, p, s) => sum + p * values[s]!, 0);
        const value = rewards![row]! - states * horizon * bonus[row]! + next;
        here[Math.floor(row / actions) % states]! += baseline[row]! * value;
      }
      values = here;
    }
    return values.reduce((sum, value, s) => sum + initial[s]! * value, 0);
  }

  static fromJSON(json: LearnerJson, solver: Highs): OptPessLp {
    const { problem, options } = restoredParts(json);
    return new OptPessLp(problem, solver, options).restore(json);
  }
}
