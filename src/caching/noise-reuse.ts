/** The prediction of the last full step, used again: the baseline that a method which does steps in part has to beat. */
import type { Denoiser, Feeds } from "../sampling/denoiser.ts";
import type { Action, StepContext, StepPolicy } from "../sampling/step-policy.ts";
import type { FloatTensor } from "../tensor.ts";

/** A denoiser that gives what it gave at the last full step, where a policy does not ask for another. */
export class NoiseReuse implements Denoiser {
  readonly actions: Action[] = [];
  readonly #denoiser: Denoiser;
  readonly #policy: StepPolicy;
  #last: FloatTensor | null = null;

  constructor(denoiser: Denoiser, policy: StepPolicy) {
    this.#denoiser = denoiser;
    this.#policy = policy;
  }

  async run(feeds: Feeds, step: StepContext): Promise<FloatTensor> {
    const action = this.#last ? this.#policy(step) : "full";
    this.actions.push(action);
    if (!this.#last || action === "full") this.#last = await this.#denoiser.run(feeds, step);
    return this.#last;
  }
}
