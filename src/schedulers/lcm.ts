import type { FloatTensor } from "../tensor.ts";
import { clampInPlace, combine, drawNoise, thresholdInPlace } from "./arithmetic.ts";
import { DistilledProcess } from "./distilled.ts";
import { predicted } from "./prediction.ts";
import type { Scheduler, StepOptions, StepResult } from "./scheduler.ts";

/** Standard deviation of the data, in the boundary conditions (Song et al. 2023, appendix C). */
const SIGMA_DATA = 0.5;

/**
 * Latent consistency models (Luo et al. 2023, arXiv 2310.04378): each step predicts the clean sample directly and returns
 * to the next timestep with new noise. Timesteps are a selection of those that the model was distilled on.
 */
export class LCMScheduler extends DistilledProcess implements Scheduler {
  readonly takes = ["timesteps"] as const;

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    super("LCMScheduler", config);
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor, options: StepOptions = {}): StepResult {
    const { config } = this;
    const i = this.takeStep(timestep);
    const alphaProd = this.alphaAt(timestep);
    const { x0: clean } = predicted(config.prediction_type, Math.sqrt(alphaProd), Math.sqrt(1 - alphaProd));
    const x0 = combine("LCM step", [clean.sample, sample], [clean.output, modelOutput]);
    if (config.thresholding) thresholdInPlace(x0, config.dynamic_thresholding_ratio, config.sample_max_value);
    else if (config.clip_sample) clampInPlace(x0, config.clip_sample_range);

    const scaled = timestep * config.timestep_scaling;
    const skip = SIGMA_DATA ** 2 / (scaled ** 2 + SIGMA_DATA ** 2);
    const out = scaled / Math.sqrt(scaled ** 2 + SIGMA_DATA ** 2);
    const denoised = combine("LCM step", [out, x0], [skip, sample]);
    const following = this.timesteps[i + 1];
    if (following === undefined) return { prevSample: denoised, predOriginalSample: denoised };
    const alphaProdNext = this.alphaAt(following);
    const noise = drawNoise(this.className, options.noise);
    const prevSample = combine("LCM step", [Math.sqrt(alphaProdNext), denoised], [Math.sqrt(1 - alphaProdNext), noise]);
    return { prevSample, predOriginalSample: denoised };
  }
}
