/** A denoiser whose steps are full or inner (arXiv 2501.13107): the feedback module, then the backbone's last blocks. */
import { combine, meanAbsolute, meanAbsoluteDifference } from "../caching/arrays.ts";
import type { StagedSession } from "../models/staged.ts";
import { type Denoiser, type Feeds, runSegments } from "../sampling/denoiser.ts";
import type { Action, StepContext, StepPolicy } from "../sampling/step-policy.ts";
import { type FloatTensor, floatTensor, type Tensor } from "../tensor.ts";

/** A backbone in the parts that `feedbackCuts` makes of it, and the feedback module. Full and inner steps share them. */
export interface IlfSessions {
  readonly parts: readonly StagedSession[];
  readonly feed: number;
  readonly resume: number;
  /** The features that an inner step goes on from: the feedback module's, or the carried ones for plain caching. */
  readonly feedback: (features: Feeds) => Promise<FloatTensor>;
}

/** What a step leaves for the next. */
export interface Carried {
  /** After block `feedBlock`; in an inner step, the feedback module's prediction of it. */
  readonly features: FloatTensor;
  readonly embedding: FloatTensor;
  /** Change of the features between the last two full steps, a step; zeros after the first. */
  readonly trend: FloatTensor;
}

/** What the steps of one run carry along. */
export class Trail {
  #carried: Carried | null = null;
  #lastFull: { index: number; features: FloatTensor } | null = null;

  /** Null before the first step. */
  get carried(): Carried | null {
    return this.#carried;
  }

  full({ index }: StepContext, features: FloatTensor, embedding: FloatTensor): void {
    const last = this.#lastFull;
    const trend = last
      ? combine(features, last.features, (now, then) => (now - then) / (index - last.index))
      : floatTensor(features.shape);
    this.#lastFull = { index, features };
    this.#carried = { features, embedding, trend };
  }

  /** The prediction takes the features' place; their trend stays that of the full steps. */
  inner(predicted: FloatTensor, embedding: FloatTensor): void {
    this.#carried = { ...this.#carried!, features: predicted, embedding };
  }
}

export class IlfDenoiser implements Denoiser {
  readonly actions: Action[] = [];
  readonly #sessions: IlfSessions;
  readonly #policy: StepPolicy;
  readonly #mostDrift: number;
  readonly #trail = new Trail();
  #drift = 0;

  /**
   * An inner step becomes a full one where the features would have drifted from those of the last full step by more
   * than `mostDrift`: the sum over the inner steps since of mean |predicted - carried| / mean |carried|.
   */
  constructor(sessions: IlfSessions, policy: StepPolicy, mostDrift = Number.POSITIVE_INFINITY) {
    this.#sessions = sessions;
    this.#policy = policy;
    this.#mostDrift = mostDrift;
  }

  async run(feeds: Feeds, step: StepContext): Promise<FloatTensor> {
    const { parts, feed, resume, feedback } = this.#sessions;
    const chosen = this.#policy(step);
    const entered = await runSegments(parts.slice(0, 1), feeds);
    const embedding = entered["hiddenStates"] as FloatTensor;
    const { carried } = this.#trail;
    if (carried && chosen !== "full") {
      const predicted = await feedback(feedbackFeeds(entered, carried));
      this.#drift += relativeChange(carried.features, predicted);
      if (this.#drift <= this.#mostDrift) {
        this.actions.push(chosen);
        this.#trail.inner(predicted, embedding);
        const leaving = await runSegments(parts.slice(resume), { ...entered, hiddenStates: predicted });
        return leaving["sample"] as FloatTensor;
      }
    }
    this.#drift = 0;
    this.actions.push("full");
    const before = await runSegments(parts.slice(1, feed + 1), entered);
    this.#trail.full(step, before["hiddenStates"] as FloatTensor, embedding);
    return (await runSegments(parts.slice(feed + 1), before))["sample"] as FloatTensor;
  }
}

const relativeChange = (from: FloatTensor, to: FloatTensor) =>
  meanAbsoluteDifference(from, to) / Math.max(meanAbsolute(from), 1e-12);

/** What the feedback module reads at a step, from that step's entry and what the last one left. */
export function feedbackFeeds(entered: Feeds, { features, embedding, trend }: Carried): Record<string, Tensor> {
  return {
    ...entered,
    carried: features,
    embedding: entered["hiddenStates"]!,
    carriedEmbedding: embedding,
    trend,
  };
}

/** Plain caching: the carried features as they are. It is what feedback with a scale of zero and nothing added gives. */
export const carriedOn = async (feeds: Feeds): Promise<FloatTensor> => feeds["carried"] as FloatTensor;
