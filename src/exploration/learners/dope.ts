import type { Sizes } from "../mdp/mdp.ts";
import { always, type MixturePolicy, pure } from "../mdp/policy.ts";
import type { Problem } from "../mdp/problem.ts";
import { type LearnerJson, type LearnerOptions, restoredParts } from "./learner.ts";
import { type Highs, LinearProgram, policyOfOccupancy } from "./linear-program.ts";
import { checkedGap, LpLearner } from "./lp-learner.ts";

/** Two rows for each z, with its row's S variables. */
const entries = ({ horizon, states, actions }: Sizes) => 2 * horizon * actions * states ** 3;

/**
 * DOPE (Bura et al. 2022, arXiv 2112.00885): optimistic in the rewards and in the choice of a model from the
 * confidence set, pessimistic in the constraint. One linear program over z_h(s,a,s') = q_h(s,a) P'_h(s'|s,a); the baseline is
 * played as long as that has no solution. Widths w(s,a,s') = 2 sqrt(log p^ (1 - p^) / n) + 14 log / (3n), and with their sum W
 * over s', at most 2: rewards r + (H^2 / kappa) W, in the constraint r - H W.
 */
export class Dope extends LpLearner {
  override readonly algorithm = "dope";

  protected override decide(): MixturePolicy {
    const { baseline, states } = this.problem;
    const solution = this.program().solve(this.solver);
    if (!solution) return pure("baseline", always(baseline, this.problem));
    const occupancy = new Float64Array(baseline.length);
    solution.forEach((z, i) => {
      occupancy[Math.floor(i / states)]! += z;
    });
    return pure("custom", always(policyOfOccupancy(occupancy, baseline, this.problem), this.problem));
  }

  constructor(problem: Problem, solver: Highs, options: LearnerOptions = {}) {
    super(problem, solver, options, entries);
  }

  /** Throws ArgumentError for a problem that it cannot run on. */
  static check(problem: Problem): void {
    checkedGap(problem, entries(problem));
  }

  program(): LinearProgram {
    const { horizon, states, actions, rewards, initial, threshold, bonusScale } = this.problem;
    const { visits } = this.counts;
    const program = new LinearProgram();
    const p = new Float64Array(states);
    const safe: [number, number][] = [];
    const flows = Array.from({ length: horizon * states }, () => [] as [number, number][]);
    const inSet: [number, number][][] = [];
    for (let row = 0; row < visits.length; row++) {
      const n = Math.max(1, visits[row]!);
      const logarithm = this.logarithm(n);
      this.frequencies(row, p);
      const widths = p.map((q) => {
        if (visits[row] === 0) return 1;
        const found = bonusScale * (2 * Math.sqrt((logarithm * q * (1 - q)) / n) + (14 * logarithm) / (3 * n));
        // Infinity times zero is NaN, which is not a width.
        return Number.isNaN(found) ? 1 : Math.min(1, found);
      });
      const width = Math.min(
        2,
        widths.reduce((a, b) => a + b),
      );
      const reward = rewards![row]!;
      const first = program.costs.length;
      for (let s = 0; s < states; s++) {
        const z = program.variable(reward + (horizon ** 2 / this.gap) * width);
        safe.push([z, reward - horizon * width]);
        flows[Math.floor(row / actions)]!.push([z, 1]);
        const arrival = Math.floor(row / actions / states + 1) * states + s;
        flows[arrival]?.push([z, -1]);
      }
      // (p^ - w) q <= z <= (p^ + w) q, where q is the sum of z over s'.
      for (let s = 0; s < states; s++) {
        for (const [sign, limit] of [
          [1, p[s]! + widths[s]!],
          [-1, widths[s]! - p[s]!],
        ] as const) {
          if (limit >= (sign === 1 ? 1 : 0)) continue;
          const entries = Array.from(p, (_, k): [number, number] => [first + k, (k === s ? sign : 0) - limit]);
          inSet.push(entries);
        }
      }
    }
    flows.forEach((flow, at) => {
      const inflow = at < states ? initial[at]! : 0;
      program.row(flow, inflow, inflow);
    });
    for (const entries of inSet) program.row(entries, -Infinity, 0);
    program.row(safe, threshold, Infinity);
    return program;
  }

  static fromJSON(json: LearnerJson, solver: Highs): Dope {
    const { problem, options } = restoredParts(json);
    return new Dope(problem, solver, options).restore(json);
  }
}
