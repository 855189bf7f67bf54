import type { MixturePolicy } from "../mdp/policy.ts";
import { BoundedLearner } from "./bounded-learner.ts";
import { type CertifiedMixture, certifiedMixture, certifiedPolicy, kindOf } from "./certified.ts";
import { type LearnerJson, restoredParts } from "./learner.ts";

/** A decision of EpsMix, with the bounds that it is based on. */
export interface EpsMixDecision {
  readonly kind: "optimistic" | "mixture" | "baseline";
  /** Probability of playing the baseline for the whole episode. */
  readonly epsilon: number;
  readonly lowerBounds: { readonly optimistic: number; readonly baseline: number };
  /** The mixture with `fallback: "certified"`; epsilon is then the probability of `safe`. */
  readonly certified?: CertifiedMixture;
}

/**
 * EpsMix (Li et al. 2023, arXiv 2306.06265) plays the baseline or the optimistic policy for a whole episode, with probabilities
 * such that the lower bound equals the threshold. With `fallback: "certified"`, which is not in the paper, it plays the mixture
 * of certified.ts.
 */
export class EpsMix extends BoundedLearner {
  override readonly algorithm = "epsmix";

  /** The decision for this episode, with the figures that it is based on. */
  decision(): EpsMixDecision {
    const { horizon, threshold } = this.problem;
    this.bounds.plan();
    const lowerBounds = { optimistic: this.bounds.lower(0), baseline: this.bounds.lower(horizon) };
    const { optimistic, baseline } = lowerBounds;
    if (optimistic >= threshold) return { kind: "optimistic", epsilon: 0, lowerBounds };
    const certified = this.certifying && certifiedMixture(this.certifying, this.problem, [0, horizon]);
    if (certified) return { kind: kindOf(certified, horizon), epsilon: 1 - certified.rho, lowerBounds, certified };
    if (!(baseline > threshold)) return { kind: "baseline", epsilon: 1, lowerBounds };
    // epsilon L(baseline) + (1 - epsilon) L(optimistic) = threshold
    return { kind: "mixture", epsilon: (threshold - optimistic) / (baseline - optimistic), lowerBounds };
  }

  protected override decide(): MixturePolicy {
    const { kind, epsilon, certified } = this.decision();
    if (certified) return certifiedPolicy(certified, this.certifying!, this.problem);
    const components = [
      { weight: epsilon, policy: this.candidate(this.problem.horizon) },
      { weight: 1 - epsilon, policy: this.candidate(0) },
    ];
    return { kind, components: components.filter(({ weight }) => weight > 0) };
  }

  /** Resumes from the state that `toJSON` gave, with the same results to the last bit. */
  static fromJSON(json: LearnerJson): EpsMix {
    const { problem, options } = restoredParts(json);
    return new EpsMix(problem, options).restore(json);
  }
}
