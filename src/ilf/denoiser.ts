/** A denoiser whose steps are full or inner (arXiv 2501.13107): the feedback module, then the backbone's last blocks. */
import { minus } from "../caching/arrays.ts";
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

export class IlfDenoiser implements Denoiser {
  readonly actions: Action[] = [];
  readonly #sessions: IlfSessions;
  readonly #policy: StepPolicy;
  #carried: Carried | null = null;
  #lastFull: { index: number; features: FloatTensor } | null = null;

  constructor(sessions: IlfSessions, policy: StepPolicy) {
    this.#sessions = sessions;
    this.#policy = policy;
  }

  async run(feeds: Feeds, step: StepContext): Promise<FloatTensor> {
    const entered = await runSegments(this.#sessions.parts.slice(0, 1), feeds);
    const action = this.#carried ? this.#policy(step) : "full";
    this.actions.push(action);
    const result = action === "full" ? await this.#full(entered, step) : await this.#inner(entered, this.#carried!);
    this.#carried = result.carried;
    return result.sample;
  }

  async #full(entered: Record<string, Tensor>, { index }: StepContext) {
    const { parts, feed } = this.#sessions;
    const before = await runSegments(parts.slice(1, feed + 1), entered);
    const features = before["hiddenStates"] as FloatTensor;
    const { sample } = await runSegments(parts.slice(feed + 1), before);
    const trend = this.#lastFull
      ? scaled(minus(features, this.#lastFull.features), 1 / (index - this.#lastFull.index))
      : floatTensor(features.shape);
    this.#lastFull = { index, features };
    const embedding = entered["hiddenStates"] as FloatTensor;
    return { sample: sample as FloatTensor, carried: { features, embedding, trend } };
  }

  async #inner(entered: Record<string, Tensor>, carried: Carried) {
    const { parts, resume, feedback } = this.#sessions;
    const embedding = entered["hiddenStates"] as FloatTensor;
    const features = await feedback(feedbackFeeds(entered, carried));
    const { sample } = await runSegments(parts.slice(resume), { ...entered, hiddenStates: features });
    return { sample: sample as FloatTensor, carried: { ...carried, features, embedding } };
  }
}

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

function scaled(tensor: FloatTensor, factor: number): FloatTensor {
  return floatTensor(
    tensor.shape,
    tensor.data.map((value) => value * factor),
  );
}
