/**
 * A denoiser whose steps are full or inner (arXiv 2501.13107). An inner step runs the feedback module and then the last
 * blocks of the backbone.
 */
import { combineStreams, mapStreams, relativeChange, type Streams } from "../caching/streams.ts";
import type { Denoiser, Feeds } from "../sampling/denoiser.ts";
import type { Action, StepContext, StepPolicy } from "../sampling/step-policy.ts";
import { type FloatTensor, floatTensor } from "../tensor.ts";
import type { Carried, IlfSteps } from "./steps.ts";

/** What is carried from step to step within one run. */
export class StepMemory {
  #carried: Carried | null = null;
  #lastFull: { index: number; features: Streams } | null = null;

  /** Null before the first step. */
  get carried(): Carried | null {
    return this.#carried;
  }

  full({ index }: StepContext, features: Streams, embedding: Streams): void {
    const last = this.#lastFull;
    const trend = last
      ? combineStreams(features, last.features, (now, then) => (now - then) / (index - last.index))
      : mapStreams(features, ({ shape }) => floatTensor(shape));
    this.#lastFull = { index, features };
    this.#carried = { features, embedding, trend };
  }

  /** The prediction takes the features' place; their trend stays that of the full steps. */
  inner(predicted: Streams, embedding: Streams): void {
    this.#carried = { ...this.#carried!, features: predicted, embedding };
  }
}

export class IlfDenoiser implements Denoiser {
  readonly actions: Action[] = [];
  readonly #steps: IlfSteps;
  readonly #policy: StepPolicy;
  readonly #mostDrift: number;
  readonly #memory = new StepMemory();
  #drift = 0;

  /**
   * An inner step becomes a full one where the features would have drifted from those of the last full step by more
   * than `mostDrift`: the sum over the inner steps since of mean |predicted - carried| / mean |carried|.
   */
  constructor(steps: IlfSteps, policy: StepPolicy, mostDrift = Number.POSITIVE_INFINITY) {
    this.#steps = steps;
    this.#policy = policy;
    this.#mostDrift = mostDrift;
  }

  async run(feeds: Feeds, step: StepContext): Promise<FloatTensor> {
    const chosen = this.#policy(step);
    const { carried } = this.#memory;
    if (carried && chosen !== "full") {
      const result = await this.#steps.inner(feeds, carried, (predicted) => {
        this.#drift += relativeChange(carried.features, predicted);
        return this.#drift <= this.#mostDrift;
      });
      if (result) {
        this.actions.push(chosen);
        this.#memory.inner(result.features, result.embedding);
        return result.sample;
      }
    }
    this.#drift = 0;
    this.actions.push("full");
    const { sample, features, embedding } = await this.#steps.full(feeds);
    this.#memory.full(step, features, embedding);
    return sample;
  }
}
