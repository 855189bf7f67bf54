import { BoundedLearner } from "./bounded-learner.ts";
import { type LearnerJson, restoredParts } from "./learner.ts";
import type { MixturePolicy } from "./policy.ts";

/** What StepMix decided, and the bounds that it decided by. */
export interface StepMixDecision {
  readonly kind: "optimistic" | "mixture" | "baseline";
  /** Steps of the baseline in the more conservative of the two candidates that are mixed. */
  readonly h0: number;
  /** Probability of the other one, with one step of the baseline fewer. */
  readonly rho: number;
  /** Lower bounds of candidates 0 to h0. */
  readonly lowerBounds: number[];
}

/** StepMix (Li et al. 2023, arXiv 2306.06265): the least conservative candidate that is safe, mixed down to the threshold. */
export class StepMix extends BoundedLearner {
  override readonly algorithm = "stepmix";

  decision(): StepMixDecision {
    const { horizon, threshold } = this.problem;
    this.bounds.plan();
    const lowerBounds: number[] = [];
    for (let h0 = 0; h0 <= horizon; h0++) {
      const lower = this.bounds.lower(h0);
      lowerBounds.push(lower);
      if (lower < threshold) continue;
      if (h0 === 0) return { kind: "optimistic", h0, rho: 0, lowerBounds };
      // rho L(h0 - 1) + (1 - rho) L(h0) = threshold
      const rho = (lower - threshold) / (lower - lowerBounds[h0 - 1]!);
      return { kind: "mixture", h0, rho, lowerBounds };
    }
    return { kind: "baseline", h0: horizon, rho: 0, lowerBounds };
  }

  protected override decide(): MixturePolicy {
    const { kind, h0, rho } = this.decision();
    const components = [{ weight: 1 - rho, policy: this.candidate(h0) }];
    // The two differ at one step only, so this is one coin, tossed there.
    if (rho > 0) components.push({ weight: rho, policy: this.candidate(h0 - 1) });
    return { kind, components };
  }

  static fromJSON(json: LearnerJson): StepMix {
    const { problem, options } = restoredParts(json);
    return new StepMix(problem, options).restore(json);
  }
}
