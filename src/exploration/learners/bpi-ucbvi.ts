import { type MixturePolicy, pure } from "../mdp/policy.ts";
import { BoundedLearner } from "./bounded-learner.ts";
import { type LearnerJson, restoredParts } from "./learner.ts";

/** BPI-UCBVI (Ménard et al. 2021, arXiv 2007.13442) as a learner: always the optimistic policy, whatever the threshold. */
export class BpiUcbvi extends BoundedLearner {
  override readonly algorithm = "bpi-ucbvi";

  protected override decide(): MixturePolicy {
    this.bounds.plan();
    return pure("optimistic", this.candidate(0));
  }

  /** Resumes from the state that `toJSON` gave, with the same results to the last bit. */
  static fromJSON(json: LearnerJson): BpiUcbvi {
    const { problem, options } = restoredParts(json);
    return new BpiUcbvi(problem, options).restore(json);
  }
}
