/**
 * EasyCache (arXiv 2507.02860): the output changes about as much as the input times a slowly varying rate; while the sum
 * of the changes that this predicts is small, the whole network is left out. Needs no training.
 */
import type { StagedSession } from "../models/staged.ts";
import type { Denoiser, Feeds } from "../sampling/denoiser.ts";
import type { Action, StepContext } from "../sampling/step-policy.ts";
import type { FloatTensor } from "../tensor.ts";
import { meanAbsolute, meanAbsoluteDifference, minus, plus } from "./arrays.ts";

export interface EasyCacheOptions {
  /** Sum of predicted relative changes up to which steps are left out; 0.2 as in stable-diffusion.cpp. */
  threshold?: number;
  /** Steps before this share of the run are full; 0.15. */
  start?: number;
  /** So are those from this share on; 0.95. */
  end?: number;
}

export class EasyCache implements Denoiser {
  readonly actions: Action[] = [];
  readonly #session: StagedSession;
  readonly #options: Required<EasyCacheOptions>;
  /** Of the last step, full or not. */
  #input: FloatTensor | null = null;
  #output: FloatTensor | null = null;
  /** Of the last full step, between which the rate is measured. */
  #fullInput: FloatTensor | null = null;
  #fullOutput: FloatTensor | null = null;
  /** Output minus input at the last full step: a step that is left out adds it to its own input. */
  #change: FloatTensor | null = null;
  /** |change of output| / |change of input| between the last two full steps. */
  #rate: number | null = null;
  #accumulated = 0;

  constructor(session: StagedSession, { threshold = 0.2, start = 0.15, end = 0.95 }: EasyCacheOptions = {}) {
    this.#session = session;
    this.#options = { threshold, start, end };
  }

  async run(feeds: Feeds, { index, steps }: StepContext): Promise<FloatTensor> {
    const input = feeds["hiddenStates"] as FloatTensor;
    const { threshold, start, end } = this.#options;
    const inRange = index >= Math.max(1, Math.ceil(start * steps)) && index < Math.floor(end * steps);
    if (this.#input && this.#output && this.#rate !== null) {
      this.#accumulated +=
        (this.#rate * meanAbsoluteDifference(input, this.#input)) / Math.max(meanAbsolute(this.#output), 1e-12);
    }
    this.#input = input;
    if (inRange && this.#rate !== null && this.#accumulated < threshold) {
      this.actions.push("inner");
      // A network whose output has more channels than its input (a variance) repeats them as they were.
      this.#output = sameShape(input, this.#change!) ? plus(input, this.#change!) : this.#output!;
      return this.#output;
    }
    this.actions.push("full");
    const output = (await this.#session.run(feeds))["sample"] as FloatTensor;
    if (this.#fullInput && this.#fullOutput) {
      const moved = meanAbsoluteDifference(input, this.#fullInput);
      this.#rate = moved > 0 ? meanAbsoluteDifference(output, this.#fullOutput) / moved : null;
    }
    this.#change = sameShape(input, output) ? minus(output, input) : null;
    this.#fullInput = input;
    this.#fullOutput = this.#output = output;
    this.#accumulated = 0;
    return output;
  }
}

const sameShape = (a: FloatTensor, b: FloatTensor | null): boolean => b !== null && a.shape.join() === b.shape.join();
