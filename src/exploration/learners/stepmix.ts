import type { TightBounds } from "../bounds/tight-bounds.ts";
import { checkStepMix } from "../mdp/decision-cost.ts";
import type { MixturePolicy } from "../mdp/policy.ts";
import type { Problem } from "../mdp/problem.ts";
import { BoundedLearner } from "./bounded-learner.ts";
import { type CertifiedMixture, certifiedMixture, certifiedPolicy, kindOf } from "./certified.ts";
import { type LearnerJson, type LearnerOptions, restoredParts } from "./learner.ts";

/** A decision of StepMix, with the bounds that it is based on. */
export interface StepMixDecision {
  readonly kind: "optimistic" | "mixture" | "baseline";
  /** Steps of the baseline in the more conservative of the two candidates that are mixed. */
  readonly h0: number;
  /** Probability of the other candidate, which has one baseline step fewer. */
  readonly rho: number;
  /** Lower bounds of candidates 0 to h0. */
  readonly lowerBounds: number[];
  /** The mixture with `fallback: "certified"`; h0 is then that of `safe`, and rho the probability of `bold`. */
  readonly certified?: CertifiedMixture;
}

/**
 * StepMix (Li et al. 2023, arXiv 2306.06265) takes the least conservative candidate that is safe, and mixes it with the next bolder
 * one so that the lower bound equals the threshold. With `fallback: "certified"`, which is not in the paper, it plays the
 * mixture of certified.ts.
 */
export class StepMix extends BoundedLearner {
  override readonly algorithm = "stepmix";

  constructor(problem: Problem, options: LearnerOptions = {}) {
    super(problem, options);
    checkStepMix(problem);
  }

  /** The decision for this episode, with the figures that it is based on. */
  decision(): StepMixDecision {
    const { horizon, threshold } = this.problem;
    this.bounds.plan();
    if (this.certifying && !(this.bounds.lower(0) >= threshold)) return this.#certified(this.certifying);
    const lowerBounds: number[] = [];
    for (let h0 = 0; h0 <= horizon; h0++) {
      const lower = this.bounds.lower(h0);
      lowerBounds.push(lower);
      if (!(lower >= threshold)) continue;
      if (h0 === 0) return { kind: "optimistic", h0, rho: 0, lowerBounds };
      // rho L(h0 - 1) + (1 - rho) L(h0) = threshold
      const rho = (lower - threshold) / (lower - lowerBounds[h0 - 1]!);
      return { kind: "mixture", h0, rho, lowerBounds };
    }
    return { kind: "baseline", h0: horizon, rho: 0, lowerBounds };
  }

  #certified(bounds: TightBounds): StepMixDecision {
    const { horizon } = this.problem;
    const starts = Array.from({ length: horizon + 1 }, (_, h0) => h0);
    const certified = certifiedMixture(bounds, this.problem, starts);
    const h0 = certified?.safe.h0 ?? horizon;
    const lowerBounds = starts.slice(0, h0 + 1).map((start) => bounds.lower(start));
    if (!certified) return { kind: "baseline", h0, rho: 0, lowerBounds };
    return { kind: kindOf(certified, horizon), h0, rho: certified.rho, lowerBounds, certified };
  }

  protected override decide(): MixturePolicy {
    const { kind, h0, rho, certified } = this.decision();
    if (certified) return certifiedPolicy(certified, this.certifying!, this.problem);
    const components = [{ weight: 1 - rho, policy: this.candidate(h0) }];
    // The two differ at one step only, so drawing one of them amounts to one coin toss at that step.
    if (rho > 0) components.push({ weight: rho, policy: this.candidate(h0 - 1) });
    return { kind, components };
  }

  /** Resumes from the state that `toJSON` gave, with the same results to the last bit. */
  static fromJSON(json: LearnerJson): StepMix {
    const { problem, options } = restoredParts(json);
    return new StepMix(problem, options).restore(json);
  }
}
