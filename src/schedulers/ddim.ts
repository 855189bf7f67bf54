import { NumericError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { clampInPlace, combine, drawNoise, thresholdInPlace } from "./arithmetic.ts";
import { type ConfigOf, flag, readConfig, real } from "./config.ts";
import { type CustomSchedule, stepsOf } from "./custom-schedule.ts";
import { alphasCumprod, betaFields, DiffusionProcess, stepsOffsetField } from "./noise-schedule.ts";
import { predicted, predictionField } from "./prediction.ts";
import type { Scheduler, StepOptions, StepResult } from "./scheduler.ts";
import { requireSteps, spacedTimesteps, spacingField } from "./spacing.ts";

const fields = {
  ...betaFields,
  clip_sample: flag(true),
  clip_sample_range: real(1, 0),
  set_alpha_to_one: flag(true),
  steps_offset: stepsOffsetField,
  prediction_type: predictionField,
  thresholding: flag(false),
  dynamic_thresholding_ratio: real(0.995, 0, 1),
  sample_max_value: real(1, 0),
  timestep_spacing: spacingField("leading"),
  rescale_betas_zero_snr: flag(false),
};
export type DDIMConfig = ConfigOf<typeof fields>;

/**
 * Denoising diffusion implicit models (Song et al. 2021, equation 12): deterministic at eta 0, DDPM's ancestral
 * sampling at eta 1. Steps back by floor(trainTimesteps / steps) whatever the spacing, as the reference does.
 */
export class DDIMScheduler extends DiffusionProcess<DDIMConfig> implements Scheduler {
  readonly className: string;
  readonly takes = ["eta"] as const;
  private stride: number | undefined;

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}, className = "DDIMScheduler") {
    const read = readConfig(className, fields, config);
    super(read, alphasCumprod(read, read.rescale_betas_zero_snr));
    this.className = className;
  }

  setTimesteps(plan: number | CustomSchedule): void {
    const numInferenceSteps = stepsOf(this.className, plan);
    const { timestep_spacing: spacing, steps_offset: offset } = this.config;
    const total = this.trainTimesteps;
    this.timesteps = spacedTimesteps(this.className, numInferenceSteps, { spacing, total, offset });
    this.stride = Math.floor(total / numInferenceSteps);
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor, options: StepOptions = {}): StepResult {
    const { config } = this;
    const { eta = 0, useClippedModelOutput = false } = options;
    const previous = timestep - requireSteps(this.className, this.stride);
    const alphaProd = this.alphaAt(timestep);
    const alphaProdNext = previous >= 0 ? this.alphaAt(previous) : config.set_alpha_to_one ? 1 : this.alphasCumprod[0]!;
    const [alpha, sigma] = [Math.sqrt(alphaProd), Math.sqrt(1 - alphaProd)];
    if (alpha === 0 && config.prediction_type === "epsilon") {
      throw new NumericError(
        `${this.className}: timestep ${timestep} is pure noise (rescale_betas_zero_snr), which an epsilon prediction ` +
          "cannot denoise; use a v_prediction model, or leading spacing.",
      );
    }

    const { x0: clean, epsilon } = predicted(config.prediction_type, alpha, sigma);
    const x0 = combine("DDIM step", [clean.sample, sample], [clean.output, modelOutput]);
    if (config.thresholding) thresholdInPlace(x0, config.dynamic_thresholding_ratio, config.sample_max_value);
    else if (config.clip_sample) clampInPlace(x0, config.clip_sample_range);

    // Equation 16: the share of the next noise level that is drawn anew.
    const deviation = eta * Math.sqrt(((1 - alphaProdNext) / (1 - alphaProd)) * (1 - alphaProd / alphaProdNext));
    const direction = Math.sqrt(Math.max(0, 1 - alphaProdNext - deviation ** 2));
    const fromNoise = useClippedModelOutput
      ? { x0: -alpha / sigma, sample: 1 / sigma, output: 0 }
      : { x0: 0, ...epsilon };
    const prevSample = combine(
      "DDIM step",
      [Math.sqrt(alphaProdNext) + direction * fromNoise.x0, x0],
      [direction * fromNoise.sample, sample],
      [direction * fromNoise.output, modelOutput],
      [deviation, eta > 0 ? drawNoise(this.className, options.noise) : sample],
    );
    return { prevSample, predOriginalSample: x0 };
  }
}
