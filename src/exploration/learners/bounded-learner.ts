import type { Bounds } from "../bounds/bounds.ts";
import type { Counts } from "../bounds/counts.ts";
import { PaperBounds } from "../bounds/paper-bounds.ts";
import { TightBounds } from "../bounds/tight-bounds.ts";
import type { Episode } from "../mdp/episode.ts";
import type { SwitchingPolicy } from "../mdp/policy.ts";
import type { Problem } from "../mdp/problem.ts";
import { Learner, type LearnerOptions } from "./learner.ts";

/** A learner that decides by confidence bounds on its candidates. */
export abstract class BoundedLearner extends Learner {
  readonly bounds: Bounds;

  constructor(problem: Problem, options: LearnerOptions = {}) {
    super(problem, options);
    this.bounds = boundsFor(this.problem, this.counts);
  }

  /** The baseline for the first h0 steps, then the optimistic policy of the last plan. */
  protected candidate(h0: number): SwitchingPolicy {
    return { first: this.problem.baseline, switchAt: h0, rest: this.bounds.optimistic.slice() };
  }

  /** The bounds that certify other policies than the baseline as the safe part; undefined if only the baseline may be it. */
  protected get certifying(): TightBounds | undefined {
    return this.bounds instanceof TightBounds && this.problem.fallback !== "baseline" ? this.bounds : undefined;
  }

  protected override merged(rows: Int32Array, episode: Episode): void {
    for (const row of rows) this.bounds.refresh(row);
    this.bounds.endEpisode(episode);
  }

  protected override ownToJson(): unknown {
    return this.bounds.toJSON();
  }

  protected override restoreOwn(own: unknown): void {
    this.bounds.restore(own);
  }
}

/** The bounds that the problem asks for. */
export function boundsFor(problem: Problem, counts: Counts): Bounds {
  return problem.bounds === "tight" ? new TightBounds(problem, counts) : new PaperBounds(problem, counts);
}
