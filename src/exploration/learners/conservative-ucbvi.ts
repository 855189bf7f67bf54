import type { Episode } from "../mdp/episode.ts";
import { type MixturePolicy, pure } from "../mdp/policy.ts";
import { checkNumber, checkObject } from "../mdp/reading.ts";
import { BoundedLearner } from "./bounded-learner.ts";
import { type LearnerJson, restoredParts } from "./learner.ts";

interface Ledger {
  /** Sum of lower bounds on the values of all policies played so far. */
  earned: number;
  /** The lower bound that the present policy adds for each of its episodes. */
  present: number;
}

/**
 * Conservative UCBVI (Garcelon et al. 2020, arXiv 2002.03218). The constraint is on the sum over all episodes so far, so
 * optimism may spend what earlier episodes earned above the threshold. A single episode may fall below the threshold.
 */
export class ConservativeUcbvi extends BoundedLearner {
  override readonly algorithm = "conservative-ucbvi";
  #ledger: Ledger = { earned: 0, present: 0 };

  protected override decide(): MixturePolicy {
    const { threshold, horizon, baselineValue } = this.problem;
    this.bounds.plan();
    const optimistic = this.bounds.lower(0);
    const safe = this.#ledger.earned + this.batch * optimistic >= (this.mergedEpisodes + this.batch) * threshold;
    // The paper assumes that the baseline's value is known. If not, use its lower bound, or the threshold if that is larger.
    const conservative = () => baselineValue ?? Math.max(threshold, this.bounds.lower(horizon));
    this.#ledger.present = safe ? optimistic : conservative();
    return safe ? pure("optimistic", this.candidate(0)) : pure("baseline", this.candidate(horizon));
  }

  protected override merged(rows: Int32Array, episode: Episode): void {
    super.merged(rows, episode);
    this.#ledger.earned += this.#ledger.present;
  }

  protected override ownToJson(): { ledger: Ledger; bounds: unknown } {
    return { ledger: this.#ledger, bounds: super.ownToJson() };
  }

  protected override restoreOwn(own: unknown): void {
    const { ledger, bounds } = checkObject(own, "own");
    const { earned, present } = checkObject(ledger, "own.ledger");
    const { horizon } = this.problem;
    this.#ledger = {
      earned: checkNumber(earned, "own.ledger.earned", 0, horizon * (this.mergedEpisodes + 1)),
      present: checkNumber(present, "own.ledger.present", 0, horizon + 1),
    };
    super.restoreOwn(bounds);
  }

  /** Resumes from the state that `toJSON` gave, with the same results to the last bit. */
  static fromJSON(json: LearnerJson): ConservativeUcbvi {
    const { problem, options } = restoredParts(json);
    return new ConservativeUcbvi(problem, options).restore(json);
  }
}
