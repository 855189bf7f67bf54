/**
 * EasyCache (arXiv 2507.02860): the output changes about as much as the input times a slowly varying rate; while the sum
 * of the changes that this predicts is small, the whole network is left out. Needs no training.
 *
 * The rule is that of the authors' code: the input's change is counted from step to step, the rate between full steps,
 * relative to the output of the last full step; the last step is always full. The authors set threshold and warm-up for
 * each of their video models; the defaults here are those of stable-diffusion.cpp and ComfyUI for all models.
 */
import { latentOf } from "../models/split-model.ts";
import type { ModelSession } from "../models/staged-session.ts";
import type { Denoiser, Feeds } from "../sampling/denoiser.ts";
import { firstChannels } from "../sampling/guidance.ts";
import { type DividedNetwork, type Method, thresholdOption } from "../sampling/method.ts";
import type { Action, StepContext } from "../sampling/step-policy.ts";
import { type FloatTensor, floatOf } from "../tensor.ts";
import { addToFirstChannels, meanAbsolute, meanAbsoluteDifference, minus } from "./arrays.ts";

/** Settings of `EasyCache`; what is not given is as published. */
export interface EasyCacheOptions {
  /** Sum of predicted relative changes below which steps are left out; 0.2. */
  threshold?: number;
  /** Steps before this share of the run are full; 0.15. */
  start?: number;
  /** So are those from this share on; 0.95. */
  end?: number;
}

export class EasyCache implements Denoiser {
  readonly actions: Action[] = [];
  readonly #session: ModelSession;
  readonly #options: Required<EasyCacheOptions>;
  /** Of the last step, full or not. */
  #input: FloatTensor | null = null;
  #lastFull: { input: FloatTensor; output: FloatTensor } | null = null;
  /** |change of output| / |change of input| between the last two full steps. */
  #rate: number | null = null;
  #accumulated = 0;

  constructor(session: ModelSession, { threshold = 0.2, start = 0.15, end = 0.95 }: EasyCacheOptions = {}) {
    this.#session = session;
    this.#options = { threshold, start, end };
  }

  async run(feeds: Feeds, step: StepContext): Promise<FloatTensor> {
    const given = floatOf(feeds, latentOf(this.#session.model));
    const last = this.#lastFull;
    // A network may be given more than the latent, of which it predicts nothing: a mask and an image.
    const input = last ? firstChannels(given, last.input.shape[1]!) : given;
    if (last && this.#rate !== null) {
      const change = this.#rate * meanAbsoluteDifference(input, this.#input!);
      this.#accumulated += change / meanAbsolute(predictionOf(last.output, input));
    }
    this.#input = input;
    if (last && this.#rate !== null && this.#inRange(step) && this.#accumulated < this.#options.threshold) {
      this.actions.push("inner");
      return addToFirstChannels(last.output, minus(input, last.input));
    }
    this.actions.push("full");
    const output = floatOf(await this.#session.run(feeds), "sample");
    const moved = last ? meanAbsoluteDifference(input, last.input) : 0;
    if (last && moved > 0) {
      const changed = meanAbsoluteDifference(predictionOf(output, input), predictionOf(last.output, input));
      this.#rate = changed / moved;
    }
    this.#lastFull = { input: firstChannels(input, Math.min(input.shape[1]!, output.shape[1]!)), output };
    this.#input = this.#lastFull.input;
    this.#accumulated = 0;
    return output;
  }

  #inRange({ index, steps }: StepContext): boolean {
    const { start, end } = this.#options;
    return index / steps >= start && index / steps < end && index < steps - 1;
  }
}

/** The output without the variance that some networks have after it. */
const predictionOf = (output: FloatTensor, input: FloatTensor) => firstChannels(output, input.shape[1]!);

export const easyCache: Method<
  "easycache",
  "transformer" | "unet",
  DividedNetwork,
  Pick<EasyCacheOptions, "threshold">
> = {
  name: "easycache",
  summary: "while the output's predicted change is small, it is the input plus the last full step's difference",
  source: "arXiv 2507.02860",
  networks: ["transformer", "unet"],
  options: { threshold: thresholdOption("0.2") },
  cuts: () => [],
  ofOutput: () => true,
  async open({ inParts }, options) {
    const [session] = await inParts([]);
    return () => new EasyCache(session!, options);
  },
  atEqualTime: [{ by: "threshold" }],
};
