import { NumericError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { clampInPlace, combine } from "./arithmetic.ts";
import { type ConfigOf, flag, oneOf, optional, readConfig, real } from "./config.ts";
import { type CustomSchedule, stepsOf } from "./custom-schedule.ts";
import { alphasCumprod, betaFields, DiffusionProcess, stepsOffsetField } from "./noise-schedule.ts";
import { predicted, predictionField } from "./prediction.ts";
import type { Scheduler, StepResult } from "./scheduler.ts";
import { requireSteps, spacedTimesteps } from "./spacing.ts";

const fields = {
  ...betaFields,
  clip_sample: flag(true),
  clip_sample_range: real(1, 0),
  set_alpha_to_one: flag(true),
  // The older name of this key.
  set_alpha_to_zero: optional(flag(false)),
  steps_offset: stepsOffsetField,
  prediction_type: predictionField,
  timestep_spacing: oneOf("leading", ["leading", "trailing"]),
  rescale_betas_zero_snr: flag(false),
};
export type DDIMInverseConfig = ConfigOf<typeof fields>;

/**
 * DDIM inversion (Song et al. 2021, section 4.3): from a clean sample to the noise from which DDIM would generate it.
 * Timesteps ascend; each step takes the sample from the noise level before the timestep to that of the timestep.
 */
export class DDIMInverseScheduler extends DiffusionProcess<DDIMInverseConfig> implements Scheduler {
  readonly className = "DDIMInverseScheduler";
  readonly takes = [] as const;
  private stride: number | undefined;

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    const read = readConfig("DDIMInverseScheduler", fields, config);
    super(read, alphasCumprod(read, read.rescale_betas_zero_snr));
    this.timesteps = this.timesteps.toReversed();
  }

  setTimesteps(plan: number | CustomSchedule): void {
    const steps = stepsOf(this.className, plan);
    const { timestep_spacing: spacing, steps_offset: offset } = this.config;
    const total = this.trainTimesteps;
    this.timesteps = spacedTimesteps(this.className, steps, { spacing, total, offset }).reverse();
    this.stride = Math.floor(total / steps);
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor): StepResult {
    const { config } = this;
    const before = Math.min(timestep - requireSteps(this.className, this.stride), this.trainTimesteps - 1);
    const toOne = config.set_alpha_to_zero ?? config.set_alpha_to_one;
    const alphaProd = before >= 0 ? this.alphaAt(before) : toOne ? 1 : this.alphasCumprod[0]!;
    const alphaProdNext = this.alphaAt(timestep);
    const [alpha, sigma] = [Math.sqrt(alphaProd), Math.sqrt(1 - alphaProd)];
    if (sigma === 0 && config.prediction_type === "sample") {
      throw new NumericError(
        `${this.className}: a clean sample tells a "sample" prediction nothing of the noise; set_alpha_to_one must be false.`,
      );
    }
    const { x0: clean, epsilon } = predicted(config.prediction_type, alpha, sigma);
    const x0 = combine("DDIM inverse step", [clean.sample, sample], [clean.output, modelOutput]);
    if (config.clip_sample) clampInPlace(x0, config.clip_sample_range);
    const sigmaNext = Math.sqrt(1 - alphaProdNext);
    // As in the reference the noise is computed before clipping, also when the model predicts the clean sample.
    const prevSample = combine(
      "DDIM inverse step",
      [Math.sqrt(alphaProdNext), x0],
      [sigmaNext * epsilon.sample, sample],
      [sigmaNext * epsilon.output, modelOutput],
    );
    return { prevSample, predOriginalSample: x0 };
  }
}
