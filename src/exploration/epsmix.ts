import { type Bounds, PaperBounds } from "./bounds.ts";
import { type Episode, Learner, type LearnerJson, type LearnerOptions, restoredParts } from "./learner.ts";
import type { MixturePolicy, SwitchingPolicy } from "./policy.ts";
import type { Problem } from "./problem.ts";

/** What EpsMix decided, and the bounds that it decided by. */
export interface EpsMixDecision {
  readonly kind: "optimistic" | "mixture" | "baseline";
  /** Probability of playing the baseline for the whole episode. */
  readonly epsilon: number;
  readonly lowerBounds: { readonly optimistic: number; readonly baseline: number };
}

/** EpsMix (Li et al. 2023, section 5): for a whole episode the baseline or the optimistic policy, mixed to the threshold. */
export class EpsMix extends Learner {
  override readonly algorithm = "epsmix";
  readonly bounds: Bounds;

  constructor(problem: Problem, options: LearnerOptions = {}) {
    super(problem, options);
    this.bounds = new PaperBounds(this.problem, this.counts);
  }

  decision(): EpsMixDecision {
    const { horizon, threshold } = this.problem;
    this.bounds.plan();
    const lowerBounds = { optimistic: this.bounds.lower(0), baseline: this.bounds.lower(horizon) };
    const { optimistic, baseline } = lowerBounds;
    if (optimistic >= threshold) return { kind: "optimistic", epsilon: 0, lowerBounds };
    if (baseline <= threshold) return { kind: "baseline", epsilon: 1, lowerBounds };
    // epsilon L(baseline) + (1 - epsilon) L(optimistic) = threshold
    return { kind: "mixture", epsilon: (threshold - optimistic) / (baseline - optimistic), lowerBounds };
  }

  protected override decide(): MixturePolicy {
    const { kind, epsilon } = this.decision();
    const rest = this.bounds.optimistic.slice();
    const policy = (switchAt: number): SwitchingPolicy => ({ first: this.problem.baseline, switchAt, rest });
    const components = [
      { weight: epsilon, policy: policy(this.problem.horizon) },
      { weight: 1 - epsilon, policy: policy(0) },
    ];
    return { kind, components: components.filter(({ weight }) => weight > 0) };
  }

  protected override merged(rows: Int32Array, _episode: Episode): void {
    for (const row of rows) this.bounds.refresh(row);
  }

  static fromJSON(json: LearnerJson): EpsMix {
    const { problem, options } = restoredParts(json);
    return new EpsMix(problem, options).restore(json);
  }
}
