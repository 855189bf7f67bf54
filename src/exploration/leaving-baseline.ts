import { Counts } from "./bounds/counts.ts";
import { PaperBounds } from "./bounds/paper-bounds.ts";
import type { Experiment } from "./experiment.ts";
import { rowOf } from "./mdp/mdp.ts";
import { occupancy } from "./mdp/planning.ts";
import { always } from "./mdp/policy.ts";

/**
 * Predicts after how many episodes of the baseline the paper's bounds let StepMix leave it. It evaluates the bounds with the
 * expected counts of that many episodes and the true transitions as frequencies. Exact to 1%; Infinity beyond 10^15.
 */
export function episodesToLeave({ mdp, problem }: Experiment): number {
  const visits = occupancy(mdp, always(problem.baseline, mdp));
  const leaves = (episodes: number): boolean => {
    const counts = new Counts(mdp);
    visits.forEach((visit, row) => {
      if (visit === 0) return;
      const [h, s, a] = [
        Math.floor(row / mdp.actions / mdp.states),
        Math.floor(row / mdp.actions) % mdp.states,
        row % mdp.actions,
      ];
      const from = rowOf(mdp, h, s, a);
      for (let i = mdp.offsets[from]!; i < mdp.offsets[from + 1]!; i++) {
        counts.add(h, s, a, mdp.successors[i]!, episodes * visit * mdp.probabilities[i]!);
      }
    });
    const bounds = new PaperBounds(problem, counts);
    bounds.plan();
    for (let h0 = 0; h0 <= mdp.horizon; h0++) if (bounds.lower(h0) >= problem.threshold) return true;
    return false;
  };
  let high = 1;
  while (!leaves(high)) {
    high *= 2;
    if (high > 1e15) return Infinity;
  }
  let low = high / 2;
  while (high > 1.01 * low) {
    const middle = Math.sqrt(low * high);
    if (leaves(middle)) high = middle;
    else low = middle;
  }
  return Math.ceil(high);
}
